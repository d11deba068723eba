"""The index that the settings name: on a Qdrant server, or of the embedded engine in a folder; and whether it may be used as it is."""

from pathlib import Path

from headwater.enrichers.embed import Embedder
from headwater.enrichers.engine import Index, Storage
from headwater.enrichers.fingerprint import Fingerprint, keep, stored
from headwater.enrichers.generations import Generations
from headwater.enrichers.switch import by_words
from headwater.flows.settings import Settings


def open_index(settings: Settings, path: Path, collection: str, size: int) -> Index:
    """What answers of the index the settings name: on a Qdrant server, or of the embedded engine under `path`."""
    return generations_of(settings, path, collection).current(size)


def generations_of(settings: Settings, path: Path, collection: str) -> Generations:
    """The index the settings name, with what a rebuild puts beside it."""
    if settings.qdrant_url:
        from headwater.enrichers.aliases import QdrantGenerations
        from headwater.enrichers.qdrant import client

        key, port = settings.qdrant_api_key or None, settings.qdrant_grpc_port
        return QdrantGenerations(lambda: client(settings.qdrant_url, key, grpc_port=port), collection, storage_of(settings))
    from headwater.enrichers.generations import EdgeGenerations

    return EdgeGenerations(path, storage_of(settings))


def storage_of(settings: Settings) -> Storage:
    """How vectors are to be kept."""
    return Storage(settings.index_quantization, settings.index_on_disk)


def recognise(index: Index, wanted: Fingerprint, embedder: Embedder, *, adopt: bool) -> Index:
    """The index as it may be used by this application: by words alone if its vectors are another model's.

    With `adopt` an index that knows nothing of itself is taken to be this application's.
    """
    known = stored(index)
    if known is None:
        if adopt:
            keep(index, wanted)
        return index
    return index if wanted.vectors == known.vectors else by_words(index, embedder.size)
