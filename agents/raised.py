"""Whose an exception is: raised by the code of an agent or a tool, or said to us who run it."""

import asyncio
import threading


def meant_for_us(error: BaseException) -> bool:
    """Whether it must go on upwards: we are cancelled, our coroutine is closed, or somebody pressed Ctrl-C.

    All else is a failure of the code that raised it, whatever its class: `sys.exit()` in an agent's library, a panic of an extension
    module (no `Exception`, by its class), or a KeyboardInterrupt outside the main thread, where no key reaches.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return isinstance(error, GeneratorExit)
