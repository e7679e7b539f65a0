"""Memory-mapped system counter (Arm ARM I5; spec: host-platform, devices): the CNTControlBase frame.

The counter is virtual time, which nothing can stop or set: firmware has enabled it, and writes are ignored.
"""

from realmkit.arch.fields import RegisterTable
from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.devices.timing import Clock

COUNTER_FRAME_SIZE = 0x1_0000
CNTCR = RegisterTable("CNTCR", EN=(0, 0), HDBG=(1, 1), SCEN=(2, 2), FCREQ=(8, 17))
CNTSR = RegisterTable("CNTSR", DBGH=(1, 1), FCACK=(8, 17))
_CNTCR, _CNTSR, _CNTCV, _CNTFID0 = 0x000, 0x004, 0x008, 0x020
_RUNNING = CNTCR.make(EN=1)
_FREQUENCY_0 = CNTSR.make(FCACK=1)


class GenericCounter:
    """The counter's control frame; CNTCV is 64 bits wide and also answers words. One frequency, CNTFID0."""

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def read(self, offset: int, size: int) -> int:
        """Value of a register."""
        if offset & ~7 == _CNTCV and size in (4, 8) and not offset % size:
            return self._clock.now() >> 8 * (offset & 7) & ((1 << 8 * size) - 1)
        if size != 4:
            return 0
        # The frequency table ends with a zero entry, which is what unknown registers read as.
        return {_CNTCR: _RUNNING, _CNTSR: _FREQUENCY_0, _CNTFID0: TICKS_PER_SECOND}.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """Ignored: only EL3 firmware owns the counter."""
