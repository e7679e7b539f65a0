"""Services that the Host offers to the embedded payload by RSI_HOST_CALL.

========  =================  =====================================================================
imm       name               registers
========  =================  =====================================================================
1         get challenge      out: X0 = length (32 to 64), X1-X8 = the challenge, little-endian, zero-padded
2         hand out token     in: X0 = Unprotected IPA of a shared page, X1 = bytes there, X2 = bytes in all
3         report a result    in: X0 = number of the step, X1 = 0 if it passed
========  =================  =====================================================================

Nothing here is trusted by the Realm's owner: a wrong challenge or token fails verification.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from realmkit.arch.pas import GRANULE_SIZE

GET_CHALLENGE: Final = 1
TOKEN: Final = 2
RESULT: Final = 3

ReadShared = Callable[[int, int], bytes | None]
"""(Unprotected IPA, size) to the contents of shared memory; None where nothing is shared."""


@dataclass(slots=True)
class HostCallServices:
    """Challenge in, token and results out."""

    challenge: bytes
    read_shared: ReadShared
    token: bytes = b""
    results: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def failed(self) -> list[int]:
        """Numbers of the steps that did not pass."""
        return [number for number, passed in self.results if not passed]

    def __call__(self, imm: int, gprs: tuple[int, ...]) -> tuple[int, ...]:
        """Serve one call; an unknown one changes nothing."""
        if imm == GET_CHALLENGE:
            words = struct.unpack("<8Q", self.challenge.ljust(64, b"\0"))
            return (len(self.challenge), *words, *gprs[9:])
        if imm == TOKEN:
            size = gprs[1]
            if 0 < size <= GRANULE_SIZE and not gprs[0] % GRANULE_SIZE:
                self.token = self.read_shared(gprs[0], size) or b""
        elif imm == RESULT:
            self.results.append((gprs[0], gprs[1] == 0))
        return gprs
