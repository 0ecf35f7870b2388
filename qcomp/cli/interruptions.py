"""Ctrl-C at any moment ends a command without a traceback.

Python raises KeyboardInterrupt wherever it happens to be. While modules are imported that may be in
a callback, which prints the exception and goes on as if nothing had been.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NoReturn

INTERRUPTED = 130
_SECONDS = 0.01


@contextmanager
def at_once() -> Iterator[None]:
    """An interruption inside ends the process, and nothing is cleaned up."""
    if not _is_heard():
        yield
        return
    before = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def never_lost() -> Iterator[None]:
    """An interruption that arrives where exceptions are only printed is raised again."""
    before = sys.unraisablehook

    def raised_again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            _thread.start_new_thread(_interrupt_behind, (raised_again.__code__,))
        else:
            before(unraisable)

    sys.unraisablehook = raised_again
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt_behind(code: CodeType) -> None:
    """As soon as the main thread has left this code, where an exception would be lost again."""
    main = threading.main_thread().ident
    while any(frame.f_code is code for frame in _frames(main)):
        time.sleep(_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)


def _frames(thread: int | None) -> Iterator[FrameType]:
    """Of a thread, from the innermost one."""
    frame = None if thread is None else sys._current_frames().get(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back


def ignored() -> None:
    """From now on."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_heard() -> bool:
    """Whether it is Python's own handler, in the thread that may change it."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)
