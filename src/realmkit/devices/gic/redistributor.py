"""GICv3 redistributor registers (Arm IHI 0069, 12.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realmkit.arch.fields import RegisterTable
from realmkit.devices.gic.identification import IIDR, read_identification

if TYPE_CHECKING:
    from realmkit.devices.gic.gicv3 import Gicv3

REDISTRIBUTOR_SIZE = 0x2_0000
"""Of one PE: the RD frame and the SGI frame, 64 KB each."""
_SGI_FRAME = 0x1_0000

_IIDR, _TYPER, _WAKER = 0x0004, 0x0008, 0x0014
_IDENTIFICATION = range(0xFFD0, 0x1_0000)
_BANK = range(0x0080, 0x0E00)

_TYPER_FIELDS = RegisterTable("GICR_TYPER", Last=(4, 4), Processor_Number=(8, 23), Affinity_Value=(32, 63))
_WAKER_FIELDS = RegisterTable("GICR_WAKER", ProcessorSleep=(1, 1), ChildrenAsleep=(2, 2))


class RedistributorRegion:
    """The redistributors of all PEs, one after another, 128 KB each, as software of one security state sees them.

    No LPIs: GICR_CTLR and the LPI tables read as zero. GICR_WAKER exists for software that may put the redistributor to
    sleep, which Non-secure software may not where there are two security states.
    """

    __slots__ = ("_gic", "_non_secure")

    def __init__(self, gic: Gicv3, *, non_secure: bool) -> None:
        self._gic = gic
        self._non_secure = non_secure

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return len(self._gic.affinities) * REDISTRIBUTOR_SIZE

    def read(self, offset: int, size: int) -> int:
        """Value of a register."""
        pe, register = divmod(offset, REDISTRIBUTOR_SIZE)
        gic = self._gic
        if not 0 <= pe < len(gic.affinities):
            return 0
        if register >= _SGI_FRAME:
            register -= _SGI_FRAME
            if register in _BANK:
                return gic.private[pe].read(register, size, non_secure=self._non_secure)
        elif register & ~7 == _TYPER and size in (4, 8) and not register % size:
            return self._typer(pe) >> 8 * (register & 7) & ((1 << 8 * size) - 1)
        elif size == 4 and register == _IIDR:
            return IIDR
        elif size == 4 and register == _WAKER and not self._non_secure:
            asleep = int(gic.asleep[pe])
            return _WAKER_FIELDS.make(ProcessorSleep=asleep, ChildrenAsleep=asleep)
        return read_identification(register) if size == 4 and register in _IDENTIFICATION else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        pe, register = divmod(offset, REDISTRIBUTOR_SIZE)
        gic = self._gic
        if not 0 <= pe < len(gic.affinities):
            return
        if register >= _SGI_FRAME:
            register -= _SGI_FRAME
            if register in _BANK:
                gic.private[pe].write(
                    register, size, value, non_secure=self._non_secure, modifier=gic.two_security_states
                )
                gic.changed(pe)
        elif register == _WAKER and size == 4 and not self._non_secure:
            gic.set_asleep(pe, bool(_WAKER_FIELDS.get(value, "ProcessorSleep")))

    def _typer(self, pe: int) -> int:
        affinity = self._gic.affinities[pe]
        return _TYPER_FIELDS.make(
            Last=int(pe == len(self._gic.affinities) - 1),
            Processor_Number=pe,
            Affinity_Value=(affinity >> 32 & 0xFF) << 24 | affinity & 0xFF_FFFF,
        )
