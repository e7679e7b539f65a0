"""Virtual interrupts of a guest: an emulated GICv3 distributor, delivered through list registers (spec: rec-run section 5)."""

from realmkit.arch.gic import (
    GROUP1,
    ICH_LR,
    LIST_REGISTERS,
    LR_ACTIVE,
    LR_INVALID,
    LR_PENDING,
    PPI_CNTP,
    PPI_CNTV,
)
from realmkit.devices.gic import Gicv3

_HCR_UIE = 1 << 1
_TIMER_ASSERTED = 0b101
_NO_REGISTERS = (0,) * 16


class ListRegisters:
    """What the Host keeps in one VCPU's list registers between its runs."""

    def __init__(self, gic: Gicv3, vcpu: int) -> None:
        self._gic = gic
        self._vcpu = vcpu
        self._held: list[int | None] = [None] * LIST_REGISTERS
        self._values = [0] * LIST_REGISTERS

    def sync(self, values: tuple[int, ...]) -> None:
        """Take the list registers of an exit: interrupts that the guest has finished become inactive."""
        for n, intid in enumerate(self._held):
            if intid is None:
                continue
            value = values[n]
            state = value >> 62
            if state == LR_INVALID:
                self._gic.deactivate(self._vcpu, intid)
                self._held[n] = None
                value = 0
            elif state == LR_PENDING and self._gic.is_level(self._vcpu, intid) and not self._line(intid):
                # The signal fell before the guest took it.
                self._gic.deactivate(self._vcpu, intid)
                self._held[n] = None
                value = 0
            self._values[n] = value

    def _line(self, intid: int) -> bool:
        return self._gic.is_pending(self._vcpu, intid)

    def load(self) -> tuple[int, tuple[int, ...]]:
        """(ICH_HCR bits, 16 list registers) for the next entry: pending interrupts go where there is room."""
        best = self._gic.highest_pending(self._vcpu)
        waiting = best is not None
        while best is not None:
            intid, priority, group = best
            free = next((n for n, held in enumerate(self._held) if held is None), None)
            if free is None:
                break
            self._held[free] = intid
            self._values[free] = ICH_LR.make(
                vINTID=intid, Priority=priority, Group=int(group == GROUP1), State=LR_PENDING
            )
            self._gic.acknowledge(self._vcpu, intid)
            best = self._gic.highest_pending(self._vcpu)
            waiting = best is not None
        if not any(self._values):
            return 0, _NO_REGISTERS
        return _HCR_UIE if waiting else 0, (*self._values, *_NO_REGISTERS[LIST_REGISTERS:])

    def signals(self) -> bool:
        """Whether the guest has an interrupt to take: it is no use to let it wait."""
        if self._gic.highest_pending(self._vcpu) is not None:
            return True
        return any(value >> 62 not in (LR_INVALID, LR_ACTIVE) for value in self._values)


def drive_timers(gic: Gicv3, vcpu: int, cntv_ctl: int, cntp_ctl: int) -> None:
    """Timer state of an exit becomes the level of the timer PPIs."""
    gic.set_ppi(vcpu, PPI_CNTV, cntv_ctl & 7 == _TIMER_ASSERTED)
    gic.set_ppi(vcpu, PPI_CNTP, cntp_ctl & 7 == _TIMER_ASSERTED)
