"""answering: one query's answer as an Arrow stream over HTTP, ended with its reader: a client that goes away computes no further.

Queries compute in threads of their own, which give way to all that the flows do: whoever asks does not slow who lands.
"""

import asyncio
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pyarrow as pa
import structlog
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Send

from headwater.lineage.errors import HeadwaterError
from headwater.lineage.giving_way import give_way
from headwater.lineage.guard import Stop, reading
from headwater.lineage.verify import Source

ARROW = "application/vnd.apache.arrow.stream"
LOOK_S = 0.1
"""How often it is looked whether the client is still there, until the answer begins."""
AT_ONCE = 32
"""Queries that compute at the same time, at most; more wait for their turn."""
READERS = "lineage-reader"

_log = structlog.get_logger("headwater.lineage")
_readers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix=READERS, initializer=give_way)


class Answer(StreamingResponse):
    """A stream that may break off: then the connection ends before it is whole, by which its reader knows, and the log says why."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except HeadwaterError as error:
            _log.warning("an answer broke off", error=str(error))


async def answer(request: Request, source: Source, query: str, time_limit_s: float) -> StreamingResponse:
    """The answer, once it begins: what is wrong with the query is raised here, as `guard.reading` does."""
    stop = Stop()
    opening = asyncio.get_running_loop().run_in_executor(_readers, _opened, source, query, time_limit_s, stop)
    try:
        while not opening.done():
            await asyncio.wait({opening}, timeout=LOOK_S)
            if not opening.done() and await request.is_disconnected():
                stop.now()
    except BaseException:  # the server stops: its process would wait for the query
        stop.now()
        raise
    return Answer(_until(opening.result(), stop), media_type=ARROW)


async def _until(chunks: Generator[bytes, None, None], stop: Stop) -> AsyncIterator[bytes]:
    """The chunks; whoever ends this early ends the query as well."""
    try:
        while (chunk := await asyncio.get_running_loop().run_in_executor(_readers, _next, chunks, stop)) is not None:
            yield chunk
    finally:
        stop.now()
        _close(chunks)


def _next(chunks: Generator[bytes, None, None], stop: Stop) -> bytes | None:
    chunk = next(chunks, None)
    if stop.stopped:  # nobody waits for this thread any more, so it lets go of the query itself
        _close(chunks)
        return None
    return chunk


def _close(chunks: Generator[bytes, None, None]) -> None:
    try:
        chunks.close()
    except ValueError:
        """It computes in another thread still, which closes it when the interrupt has ended it."""


def _opened(source: Source, query: str, time_limit_s: float, stop: Stop) -> Generator[bytes, None, None]:
    stack = ExitStack()
    reader = stack.enter_context(reading(source, query, time_limit_s=time_limit_s, stop=stop))
    return _chunks(stack, reader, stop)


def _chunks(stack: ExitStack, reader: pa.RecordBatchReader, stop: Stop) -> Generator[bytes, None, None]:
    with stack:
        sink = _Sink()
        with pa.ipc.new_stream(sink, reader.schema) as writer:
            for batch in reader:
                if stop.stopped:
                    return
                writer.write_batch(batch)
                yield sink.taken()
        yield sink.taken()


class _Sink:
    """A file-like that hands on what was written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
