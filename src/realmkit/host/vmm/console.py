"""The guest's console: what it printed, for the report and for whoever watches."""

from collections.abc import Callable


def _nobody(data: bytes) -> None:
    """No one watches."""


class Console:
    """Collects output of the emulated PL011; ``watch`` gets it as it comes."""

    def __init__(self, watch: Callable[[bytes], None] = _nobody) -> None:
        self._watch = watch
        self._output = bytearray()

    def write(self, data: bytes) -> None:
        """Output of the guest."""
        self._output += data
        self._watch(data)

    @property
    def text(self) -> str:
        """All output so far, undecodable bytes replaced, line ends as ``\\n``."""
        return self._output.decode("utf-8", "replace").replace("\r\n", "\n")
