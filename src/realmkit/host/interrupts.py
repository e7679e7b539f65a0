"""Virtual interrupts of a guest: an emulated GICv3 that delivers through list registers (IHI 0069; spec: rec-run 5).

What is only pending belongs to the distributor: it goes into list registers at an entry and comes back at the exit, so
that priorities, enables and signals that have changed meanwhile count at the next entry. What the guest has
acknowledged stays in its list register until the guest ends it.
"""

from typing import Final

from realmkit.arch.gic import (
    GROUP1,
    ICH_HCR,
    ICH_LR,
    ICH_VMCR,
    LIST_REGISTERS,
    LR_ACTIVE,
    LR_PENDING,
    LR_PENDING_ACTIVE,
    PPI_CNTP,
    PPI_CNTV,
)
from realmkit.devices.gic import Gicv3

_UIE: Final = ICH_HCR.mask("UIE")
_EOI: Final = ICH_LR.mask("EOI")
_STATE: Final = ICH_LR.mask("State")
_STATE_SHIFT: Final = 62
_TIMER_ASSERTED: Final = 0b101
_CNTV: Final = 1 << PPI_CNTV
_CNTP: Final = 1 << PPI_CNTP
_NO_REGISTERS: Final = (0,) * 16
_ALL_FREE: Final = [None] * LIST_REGISTERS
_RESERVED: Final = _NO_REGISTERS[LIST_REGISTERS:]


class ListRegisters:
    """One VCPU's list registers between its runs."""

    __slots__ = ("_gic", "_held", "_latched", "_values", "_vcpu", "_vmcr")

    def __init__(self, gic: Gicv3, vcpu: int) -> None:
        self._gic = gic
        self._vcpu = vcpu
        self._held: list[int | None] = [None] * LIST_REGISTERS
        self._latched = [False] * LIST_REGISTERS
        """Whether the pending state came from a latch of the distributor, and not from a signal."""
        self._values = [0] * LIST_REGISTERS
        self._vmcr = 0

    def load(self) -> tuple[int, tuple[int, ...]]:
        """(ICH_HCR bits, 16 list registers) for the next entry.

        While more is pending than fits, the underflow interrupt brings the VCPU back as soon as there is room.
        """
        gic, vcpu, values = self._gic, self._vcpu, self._values
        if self._held == _ALL_FREE and gic.highest_pending(vcpu) is None:
            return 0, _NO_REGISTERS
        for n, intid in enumerate(self._held):
            # What the guest handles just now and is signalled again: only edges can wait behind themselves.
            if intid is not None and gic.take_latched(vcpu, intid):
                values[n] |= LR_PENDING << _STATE_SHIFT
        best = gic.highest_pending(vcpu)
        while best is not None and None in self._held:
            intid, priority, group = best
            free = self._held.index(None)
            gic.acknowledge(vcpu, intid)
            level = gic.is_level(vcpu, intid)
            self._held[free] = intid
            self._latched[free] = not (level and gic.is_pending(vcpu, intid))
            # The end of a level-sensitive interrupt is an exit: the Host has to look at the signal again.
            values[free] = ICH_LR.make(
                vINTID=intid, EOI=int(level), Priority=priority, Group=int(group == GROUP1), State=LR_PENDING
            )
            best = gic.highest_pending(vcpu)
        if not any(values):
            return 0, _NO_REGISTERS
        return 0 if best is None else _UIE, (*values, *_RESERVED)

    def sync(self, values: tuple[int, ...], vmcr: int) -> None:
        """Take the list registers and ICH_VMCR of an exit."""
        gic, vcpu = self._gic, self._vcpu
        self._vmcr = vmcr
        if self._held == _ALL_FREE:
            return
        for n, intid in enumerate(self._held):
            if intid is None:
                continue
            state = values[n] >> _STATE_SHIFT
            if state in (LR_PENDING, LR_PENDING_ACTIVE) and self._latched[n]:
                gic.set_pending(vcpu, intid)
            # Software may have cleared the active state in the distributor.
            if state in (LR_ACTIVE, LR_PENDING_ACTIVE) and gic.is_active(vcpu, intid):
                self._values[n] = values[n] & ~_STATE | LR_ACTIVE << _STATE_SHIFT
                self._latched[n] = True
            else:
                gic.deactivate(vcpu, intid)
                self._held[n] = None
                self._values[n] = 0

    def signals(self) -> bool:
        """Whether the guest has an interrupt that wakes it."""
        best = self._gic.highest_pending(self._vcpu)
        if best is None:
            return False
        _, priority, group = best
        enabled = ICH_VMCR.get(self._vmcr, "VENG1" if group == GROUP1 else "VENG0")
        return bool(enabled) and priority < ICH_VMCR.get(self._vmcr, "VPMR")


def drive_timers(gic: Gicv3, vcpu: int, cntv_ctl: int, cntp_ctl: int) -> None:
    """Timer state of an exit becomes the level of the timer PPIs."""
    levels = _CNTV if cntv_ctl & 7 == _TIMER_ASSERTED else 0
    if cntp_ctl & 7 == _TIMER_ASSERTED:
        levels |= _CNTP
    gic.set_ppis(vcpu, _CNTV | _CNTP, levels)
