"""Generations on a Qdrant server: collections NAME, NAME-2, …; the alias NAME-now points at the one that answers."""

import re
from collections.abc import Callable

from qdrant_client import QdrantClient, models

from headwater.enrichers.engine import Index, Storage
from headwater.enrichers.point import DENSE
from headwater.enrichers.qdrant import QdrantIndex, answering


class QdrantGenerations:
    """Readers and writers in every process speak to the alias, so that all of them turn to another collection at once.

    client   makes a connected client: each index has its own, and closes it
    name     one per application
    """

    def __init__(self, client: Callable[[], QdrantClient], name: str, storage: Storage = Storage()) -> None:
        self._connect = client
        self._client = client()
        self._name = name
        self._storage = storage

    @property
    def alias(self) -> str:
        return f"{self._name}-now"

    def current(self, size: int) -> Index:
        number = self._number()
        if number is None:
            QdrantIndex(self._client, self._name, self._size(self._name) or size, self._storage)
            with answering():
                self._client.update_collection_aliases([self._pointing(1)])
        return QdrantIndex(self._connect(), self.alias, self._size(self.alias) or size, self._storage)

    def beside(self, size: int) -> Index:
        return QdrantIndex(self._connect(), self._beside(), size, self._storage)

    def begun(self) -> bool:
        with answering():
            return self._client.collection_exists(self._beside())

    def turn(self, size: int) -> None:
        number = (self._number() or 1) + 1
        removed = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.alias))
        with answering():
            self._client.update_collection_aliases([removed, self._pointing(number)])

    def drop(self) -> None:
        kept, named = self._collection(self._number() or 1), re.compile(re.escape(self._name) + r"(-[0-9]+)?")
        with answering():
            for each in self._client.get_collections().collections:
                if named.fullmatch(each.name) and each.name != kept:
                    self._client.delete_collection(each.name)

    def close(self) -> None:
        """Let go of the server."""
        self._client.close()

    def _collection(self, number: int) -> str:
        return self._name if number == 1 else f"{self._name}-{number}"

    def _beside(self) -> str:
        return self._collection((self._number() or 1) + 1)

    def _pointing(self, number: int) -> models.CreateAliasOperation:
        create = models.CreateAlias(alias_name=self.alias, collection_name=self._collection(number))
        return models.CreateAliasOperation(create_alias=create)

    def _number(self) -> int | None:
        """Of the one that the alias points at; None: there is no alias yet."""
        with answering():
            aliases = self._client.get_aliases().aliases
        target = next((each.collection_name for each in aliases if each.alias_name == self.alias), None)
        if target is None:
            return None
        return 1 if target == self._name else int(target.rpartition("-")[2])

    def _size(self, name: str) -> int | None:
        with answering():
            if not self._client.collection_exists(name):
                return None
            vectors = self._client.get_collection(name).config.params.vectors
        return vectors[DENSE].size if isinstance(vectors, dict) and DENSE in vectors else None
