"""connect: lineage for analysts, as SQL in and polars out: of a running system over HTTP, of a stopped one from its file.

    lineage = connect(".headwater/lineage.duckdb")        # or connect("http://127.0.0.1:8088")
    lineage.sql("from decisions where agent = 'recover'")
"""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import quote

import httpx
import msgspec

from headwater.lineage.errors import Forbidden, HeadwaterError, Misused, NotFound, Unavailable
from headwater.lineage.limits import TIME_LIMIT_S
from headwater.lineage.seen import Why

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class Lineage(Protocol):
    """What `connect` returns; also a context manager."""

    def sql(self, query: str) -> "pl.DataFrame":
        """The answer to one SELECT. Raises Misused, Forbidden, Unavailable."""
        ...

    def why(self, id: str) -> Why:
        """The path of an id. Raises NotFound, Misused."""
        ...

    def ask(self, question: str, *ids: str) -> "pl.DataFrame":
        """The answer to a named question: trace, history, compare, cost, conservation, freshness. Raises NotFound, Misused."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def connect(where: str | Path, *, time_limit_s: float = TIME_LIMIT_S, transport: httpx.BaseTransport | None = None) -> Lineage:
    """Lineage at an `http(s)://` address of a running headwater, or in the DuckDB file of a stopped one (opened read-only).

    Raises NotFound (no such file), Unavailable (the file is held by a running headwater: give its address).
    """
    if str(where).startswith(("http://", "https://")):
        return Remote(httpx.Client(base_url=str(where), timeout=time_limit_s + 5, transport=transport))
    from headwater.lineage.opened import File

    return File(Path(where), time_limit_s)


class Closing(ABC):
    """A context manager of what can be closed."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Remote(Closing):
    """The lineage of a running headwater, over HTTP."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def sql(self, query: str) -> "pl.DataFrame":
        return _read(self._ask("POST", "/v1/sql", json={"query": query}))

    def why(self, id: str) -> Why:
        return msgspec.json.decode(self._ask("GET", f"/v1/why/{step_of(id)}").content, type=Why)

    def ask(self, question: str, *ids: str) -> "pl.DataFrame":
        asked = "".join(f"&id={quote(id, safe='')}" for id in ids)
        return _read(self._ask("GET", f"/v1/ask/{quote(question, safe='')}?format=arrow{asked}"))

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, json: object = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, json=json)
        except httpx.RemoteProtocolError as error:  # it had begun to answer
            raise Unavailable(f"the answer broke off: {error}; its time was up, or the server stopped; ask for less") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._client.base_url} does not answer: {error}; is headwater running there?") from None
        if response.is_error:
            raise _error(response)
        return response


def step_of(id: str) -> str:
    """An id as the last part of a path; dots too, or `..` would lead to another question."""
    return quote(id).replace(".", "%2E")


def _read(response: httpx.Response) -> "pl.DataFrame":
    """The frame of an Arrow stream. Raises Unavailable if it broke off."""
    import pyarrow as pa

    try:
        return frame_of(pa.ipc.open_stream(response.content).read_all())
    except pa.ArrowException as error:
        raise Unavailable(f"the answer broke off: {error}; its time was up, or the server stopped; ask for less") from None


_ERRORS: dict[int, type[HeadwaterError]] = {400: Misused, 403: Forbidden, 404: NotFound, 503: Unavailable}


def _error(response: httpx.Response) -> HeadwaterError:
    """The error of a problem answer (RFC 9457)."""
    try:
        text = str(response.json().get("detail") or response.text)
    except ValueError:
        text = response.text
    return _ERRORS.get(response.status_code, Misused if response.is_client_error else Unavailable)(text)


def frame_of(answer: "pa.Table") -> "pl.DataFrame":
    """A table as polars has it. Intervals, such as the difference of two times, become durations; a month counts 30 days, as in DuckDB."""
    import polars as pl
    import pyarrow as pa

    for index, field in enumerate(answer.schema):
        if pa.types.is_interval(field.type):  # polars reads none
            spans = [None if each is None else _span(*each) for each in answer.column(index).to_pylist()]
            answer = answer.set_column(index, field.name, pa.array(spans, pa.duration("us")))
    frame = pl.from_arrow(answer)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _span(months: int, days: int, nanoseconds: int) -> int:
    """An interval in µs."""
    return (months * 30 + days) * 86_400_000_000 + nanoseconds // 1000
