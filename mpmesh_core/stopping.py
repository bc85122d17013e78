"""stopping: Ctrl-C ends long work after its step: training loses nothing, a build ends cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While entered, the first Ctrl-C or SIGTERM is a wish; the next does what it always did.

    Outside of the main thread, which alone hears signals, it does nothing.
    """

    def __init__(self, tell: Callable[[str], None], heard: bool = True) -> None:
        """Say what hears of the wish.

        Args:
            tell: gets one line about it.
            heard: False to do nothing at all.
        """
        self._tell, self._hears = tell, heard
        self._before: dict[signal.Signals, Any] = {}
        self._heard: int | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self._heard is not None

    def __enter__(self) -> StopRequest:
        if self._hears and threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            # A shell has them ignored in what it runs in the background.
            self._before = {n: h for n, h in handlers.items() if h is not signal.SIG_IGN}
            for number in self._before:
                signal.signal(number, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def obey(self) -> None:
        """End the process as the signal would have; for after everything is saved."""
        if self._heard is not None:
            signal.raise_signal(self._heard)
            raise KeyboardInterrupt  # where the handler that was there before returns

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._heard = number
        self.__exit__(None, None, None)
        with suppress(RuntimeError):  # of a stream that was being written to at this moment
            self._tell("stopping after this step, the same call will go on; once more: at once")


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started here don't hear Ctrl-C, which is for their parent to answer."""
    resource_tracker.ensure_running()  # where it starts later, it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
