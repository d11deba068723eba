"""What the interpreter knows of a thread, kept for as long as the thread lives.

The engine's threads are not Python's. Each time one of them calls Python the interpreter would make it a state, map memory for its frames,
and throw both away afterwards: nearly half of what an idle flow costs, and `threading.local` forgets everything meanwhile.
"""

import ctypes
import threading

_thread = threading.local()
_ensure = ctypes.PYFUNCTYPE(ctypes.c_int)(("PyGILState_Ensure", ctypes.pythonapi))


def keep_thread_state() -> None:
    """Keep the calling thread's state: to be called from Python in every thread of the engine, at least once."""
    if not hasattr(_thread, "kept"):
        _ensure()  # never released: the state is thrown away once all that was ensured is released
        _thread.kept = True
