"""A real browser for tests of pages: headless Chromium, spoken to over its DevTools pipe, so that nothing has to be installed beside it."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("HEADWATER_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--remote-debugging-pipe", "--window-size=1000,1400",
)  # fmt: skip


class Tab:
    """One page. Everything waits at most `patience` seconds."""

    def __init__(self, write: int, read: int, patience: float = 60) -> None:
        self._write, self._read, self._patience = write, read, patience
        self._left, self._number = b"", 0
        self._session = ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")

    def go(self, url: str) -> None:
        self._ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """What a script gives, as JSON. The page's own policy does not hold for it, but for all that it sets off."""
        told = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, script: str) -> Any:
        """What it gives once it is true; pages may change meanwhile."""
        end = time.monotonic() + self._patience
        while True:
            with contextlib.suppress(AssertionError):
                if found := self.run(script):
                    return found
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """A screenshot, PNG."""
        import base64

        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        told = {"id": self._number, "method": method, "params": parameters, **({"sessionId": self._session} if self._session else {})}
        os.write(self._write, json.dumps(told).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser ended"
            self._left += piece
        one, _, self._left = self._left.partition(b"\0")
        answer: dict[str, Any] = json.loads(one)
        return answer


@contextlib.contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A browser with a profile of its own in `folder`."""
    assert CHROMIUM is not None
    theirs, ours = os.pipe()
    here, there = os.pipe()
    script = f'exec 3<&{theirs} 4>&{there}; exec "$0" "$@"'
    command = ["bash", "-c", script, CHROMIUM, *_FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(command, pass_fds=(theirs, there), stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.close(there)
    try:
        yield Tab(ours, here)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours)
        os.close(here)
