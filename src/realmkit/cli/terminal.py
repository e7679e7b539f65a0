"""Standard input as the guest's console: keys of a terminal as they are typed, lines of files and pipes on request.

And standard output, which may go away while the machine runs.
"""

import os
import select
import stat
import sys
import termios
import threading
import tty
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Final, Self

from realmkit.cli.options import Output

ESCAPE: Final = b"\x01"
"""Ctrl-A: the next key is for realmkit. Ctrl-A X quits, Ctrl-A Ctrl-A is a Ctrl-A for the guest."""
_INTERRUPT: Final = b"\x03"
_CHUNK: Final = 4096
_POLL_SECONDS: Final = 0.2


class Screen(Output):
    """Standard output, or another text file. Its terminal may be closed, its reader may end: :meth:`check` tells."""

    def __init__(self, out: IO[str]) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        """Show text."""
        self._attempt(lambda: self._out.write(text))
        return len(text)

    def flush(self) -> None:
        """Show what has been buffered."""
        self._attempt(self._out.flush)

    def check(self) -> None:
        """Raise the error that ended it, if there was one."""
        if self._failure is not None:
            raise self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


class Keys:
    """Sorts what a person types: for the guest, or for realmkit."""

    def __init__(self, to_guest: Callable[[bytes], None], power_off: Callable[[], None], quit_: Callable[[], None]):
        self._to_guest, self._power_off, self._quit = to_guest, power_off, quit_
        self._escaped = False

    def feed(self, data: bytes) -> None:
        """Take typed bytes."""
        plain = bytearray()
        for key in (data[n : n + 1] for n in range(len(data))):
            if self._escaped:
                self._escaped = False
                if key in b"xX":
                    self._quit()
                elif key == ESCAPE:
                    plain += key
            elif key == ESCAPE:
                self._escaped = True
            elif key == _INTERRUPT:
                self._power_off()
            else:
                plain += key
        if plain:
            self._to_guest(bytes(plain))


class StandardInput:
    """Standard input while it is entered as a context manager.

    A terminal is raw meanwhile, and its keys go to ``keys`` as they are typed. Lines of a file or a pipe wait for
    :meth:`next_line`: a program that types blindly would lose what it types before the guest listens.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._arrived = threading.Event()
        self._ended = threading.Event()
        self._lines: deque[bytes] = deque()
        self._saved: list[int | list[bytes | int]] | None = None
        self._thread: threading.Thread | None = None
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = sys.stdin.fileno()
            mode = os.fstat(self._fd).st_mode
        except (OSError, ValueError, AttributeError):
            return self
        if stat.S_ISREG(mode):
            # Known in advance: the same file gives the same run.
            self._lines.extend(sys.stdin.buffer.read().splitlines(keepends=True))
            return self
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)
            # Output keeps its line ends.
            attributes = termios.tcgetattr(self._fd)
            attributes[1] |= termios.OPOST
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        elif stat.S_ISCHR(mode):
            return self
        self._thread = threading.Thread(target=self._read, name="standard input", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._saved is not None:
            with suppress(termios.error):  # it has been closed
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            self._saved = None

    @property
    def interactive(self) -> bool:
        """A person may type: an idle guest waits for them in real time."""
        return self._saved is not None

    def _read(self) -> None:
        rest = b""
        while not self._ended.is_set():
            ready, _, _ = select.select([self._fd], [], [], _POLL_SECONDS)
            if not ready:
                continue
            try:
                data = os.read(self._fd, _CHUNK)
            except OSError:  # the terminal has been closed
                data = b""
            if self.interactive:
                self._keys.feed(data)
                self._arrived.set()
            else:
                *lines, rest = (rest + data).split(b"\n")
                self._lines.extend(line + b"\n" for line in lines)
                if not data and rest:
                    self._lines.append(rest)
            if not data:
                return

    def next_line(self) -> bytes:
        """The next line of a file or a pipe; nothing when there is none yet."""
        return self._lines.popleft() if self._lines else b""

    def wait(self, seconds: float | None, ended: Callable[[], bool]) -> bool:
        """Wait for keys, at most ``seconds`` (None: until there are some): whether something came, or has ``ended``."""
        left = float("inf") if seconds is None else seconds
        while True:
            came = self._arrived.wait(min(left, _POLL_SECONDS))
            self._arrived.clear()
            if came or ended():
                return True
            left -= _POLL_SECONDS
            if left <= 0:
                return False
