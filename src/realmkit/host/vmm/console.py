r"""The guest's console: what it printed, and what is typed to it."""

from collections import deque
from collections.abc import Callable


def _nobody(data: bytes) -> None:
    """No one watches."""


def _no_break() -> None:
    """A receiver that knows no breaks."""


class Console:
    """The other end of the emulated PL011.

    ``watch`` gets output as it comes. Input enters through :meth:`type` at any time, from any thread, and reaches the
    guest at its next entry: :attr:`received` tells at which tick, so that a run can be repeated.
    """

    def __init__(self, watch: Callable[[bytes], None] = _nobody) -> None:
        self._watch = watch
        self._output = bytearray()
        self._input: deque[bytes | None] = deque()
        self._receiver: Callable[[bytes], None] | None = None
        self._breaker: Callable[[], None] = _no_break
        self.received: list[tuple[int, bytes]] = []
        """(tick, bytes) of all input that the guest's UART has been given; a break is empty."""

    def write(self, data: bytes) -> None:
        """Output of the guest."""
        self._output += data
        self._watch(data)

    def type(self, data: bytes) -> None:
        """Input for the guest."""
        if data:
            self._input.append(data)

    def ask_for_power_off(self) -> None:
        """Ask Linux to power off: a break and the letter o, its magic system request."""
        self._input.extend((None, b"o"))

    @property
    def has_input(self) -> bool:
        """Whether input waits to be given to the guest."""
        return bool(self._input)

    def attach(self, receiver: Callable[[bytes], None], breaker: Callable[[], None] = _no_break) -> None:
        """Where input goes: the UART's receiver of characters, and of breaks."""
        self._receiver, self._breaker = receiver, breaker

    def poll(self, now: int) -> None:
        """Give the guest what has been typed; ``now`` is the tick."""
        while self._input and self._receiver is not None:
            data = self._input.popleft()
            self.received.append((now, data or b""))
            if data is None:
                self._breaker()
            else:
                self._receiver(data)

    @property
    def text(self) -> str:
        r"""All output so far, undecodable bytes replaced, line ends as ``\n``."""
        return self._output.decode("utf-8", "replace").replace("\r\n", "\n")
