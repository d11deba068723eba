"""A service outside, in a process of its own, that nobody kills: it does what it is asked over HTTP, and counts how often for each effect.

    POST /RUN/idempotent/EFFECT     done once per effect id; asked again it gives the same answer
    POST /RUN/reconcilable/EFFECT   done each time it is asked;  GET of the same: the answer, or 404 if it was never done
    POST /RUN/plain/EFFECT          done each time it is asked, and there is nothing to ask
    GET  /RUN                       what was done: {kind: {effect: times}}

It fails as services do, by the effect's id and so the same in every run: at the first asking it hangs up after it has done it, is
overburdened (503, nothing done), or wants to be asked later (429, nothing done). As a program it prints its port, and ends with its input.
"""

import asyncio
import json
import sys
from collections import defaultdict
from typing import Any

Runs = defaultdict[str, dict[str, dict[str, int]]]

HANGS_UP, OVERBURDENED, LATER = "01", "2", "3"
"""First digits of effect ids whose first asking ends so."""


class Service:
    """What was done, and how often each effect was asked for, by run."""

    def __init__(self) -> None:
        self.done: Runs = defaultdict(lambda: {"idempotent": {}, "reconcilable": {}, "plain": {}})
        self.asked: dict[tuple[str, str, str], int] = {}

    def answer(self, method: str, path: str) -> tuple[int, Any] | None:
        """Status and body; None: it hangs up."""
        run, _, rest = path.strip("/").partition("/")
        kind, _, effect = rest.partition("/")
        if not kind:
            return 200, self.done[run]
        times = self.done[run][kind]
        if method == "GET":
            return (200, {"effect": effect}) if effect in times else (404, None)
        nth = self.asked[run, kind, effect] = self.asked.get((run, kind, effect), 0) + 1
        if nth == 1 and effect[0] in OVERBURDENED + LATER:
            return (503 if effect[0] in OVERBURDENED else 429), None
        if kind != "idempotent" or effect not in times:
            times[effect] = times.get(effect, 0) + 1
        return None if nth == 1 and effect[0] in HANGS_UP else (200, {"effect": effect})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            answer = self.answer(method, path)
            if answer is not None:
                body = json.dumps(answer[1]).encode()
                writer.write(f"HTTP/1.1 {answer[0]} told\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked is gone
        finally:
            writer.close()


async def main() -> None:
    server = await asyncio.start_server(Service().serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
