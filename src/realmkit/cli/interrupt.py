"""Signals that end a run: in order, so that what has been built is taken down and reports are written."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_TERMINATIONS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(end: Callable[[], None], ask: Callable[[], bool] | None = None) -> Iterator[None]:
    """Ctrl-C asks (``ask``) whether the code that runs would end by itself, and where it cannot calls ``end``.

    A second one calls ``end`` in any case, and the one after ``end`` is Python's own. SIGTERM and SIGHUP call ``end``
    at once; the terminal and the files are left as they should be. A signal that is ignored stays so, as ``nohup``
    wants it.
    """
    asked = False

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal asked
        if not asked and ask is not None and ask():
            asked = True
            return
        end()
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    def terminate(signum: int, frame: Any) -> None:
        end()
        signal.signal(signum, previous[signal.Signals(signum)])

    handlers = {signal.SIGINT: interrupt, **dict.fromkeys(_TERMINATIONS, terminate)}
    previous = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
