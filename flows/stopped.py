"""The index of a stopped headwater, searched by the command itself, with the model that its vectors were made by."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from headwater.enrichers.embed import Embedder, MiniLM, minilm
from headwater.enrichers.engine import Index
from headwater.enrichers.fingerprint import Fingerprint, stored
from headwater.enrichers.freshness import StoredProgress
from headwater.enrichers.generations import EdgeGenerations
from headwater.enrichers.rerank import Reranker
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.switch import by_words
from headwater.enrichers.web import Search, answer
from headwater.flows.app import App
from headwater.flows.recovery import hold
from headwater.flows.runtime import wall_clock
from headwater.flows.screen import console as terminal
from headwater.flows.settings import Settings
from headwater.flows.target import DEFAULT, application
from headwater.lineage.errors import Behind, NotFound


def search_stopped(settings: Settings, home: Path, question: dict[str, Any]) -> Any:
    """The answer, as a running one would give it. Its model has to be loaded first, which takes a while. Raises as `stopped_index`."""
    with stopped_index(settings, home) as ask:
        return ask(question)


@contextmanager
def stopped_index(settings: Settings, home: Path, app: App | None = None) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """What answers questions to it, one after another; `app`: whose models may be needed, if not the one at hand.

    Raises NotFound without an index, Misused if one runs there after all, and with a question what the search raises.
    """
    generations = EdgeGenerations(home / "index")
    if not generations.folder.is_dir():
        raise NotFound(f"nothing runs in {home} and no index lies there; start with: headwater demo, or headwater up")
    with hold(home / "lock", f"headwater in {home}"):
        index = generations.current(MiniLM.size)
        try:
            made = stored(index)
            embedder, reranker = _model(settings, made, app)
            searched: Index = index
            if made is not None and made.vectors != (embedder.name, embedder.size):
                terminal(stderr=True).print(_words_alone(made, embedder), style="yellow")
                searched = by_words(index, embedder.size)
            else:
                terminal(stderr=True).print("nothing runs: loading the model to search the stopped index …", style="dim")
            rows = index.load_progress()
            progress = StoredProgress(searched, rows[-1].broker if rows else "", wall_clock)
            retriever = Retriever(searched, embedder, progress, reranker=reranker)
            yield lambda question: _answer(retriever, question)
        finally:
            index.close()


def _answer(retriever: Retriever, question: dict[str, Any]) -> Any:
    try:
        return msgspec.to_builtins(answer(retriever, Search(**question)))
    except Behind as error:
        why = f"{str(error).partition(';')[0]}, and nothing runs that could mend it: headwater up"
        raise Behind(why, **error.details) from None


def _model(settings: Settings, made: Fingerprint | None, app: App | None) -> tuple[Embedder, Reranker | None]:
    """By what to search: the bundled model, if the index is its; else what the application at hand declares. Raises Misused."""
    if made is not None and made.vectors == (MiniLM.name, MiniLM.size):
        return minilm(), None
    if app is None and not settings.app and not Path(DEFAULT).is_file():
        return minilm(), None
    app = application(settings, None) if app is None else app
    return app.embedder or minilm(), app.reranker


def _words_alone(made: Fingerprint, embedder: Embedder) -> str:
    return (
        f"the index was made with {made.model} ({made.size} dimensions), at hand is {embedder.name} ({embedder.size}): "
        "it is searched by words alone; name the application with HEADWATER_APP"
    )
