"""The virtual GIC CPU interface: ICC_* accesses at EL1 that act on list registers (Arm IHI 0069, chapter 6).

With HCR_EL2.IMO and FMO set, a guest's ICC_* registers are the ICV_* ones: interrupts come from ICH_LR<n>_EL2, settings
live in ICH_VMCR_EL2, active priorities in ICH_AP0R0_EL2 and ICH_AP1R0_EL2. SGIs and other trapped accesses are not
handled here (spec: rec-run section 8): they exit to EL2.
"""

from collections.abc import Callable

from realmkit.arch.gic import (
    FIRST_LPI,
    FIRST_SPECIAL,
    GROUP0,
    GROUP1,
    ICC_CTLR,
    ICH_HCR,
    ICH_LR,
    ICH_MISR,
    ICH_VMCR,
    ICH_VTR,
    IDLE_PRIORITY,
    LIST_REGISTERS,
    LR_ACTIVE,
    LR_INVALID,
    LR_PENDING,
    PRIORITY_BITS,
    PRIORITY_MASK,
    SPURIOUS,
    IchState,
)
from realmkit.devices.gic.cpu_interface import MIN_BPR0, MIN_BPR1, SRE_EL1, group_priority_mask, highest_active

_EN = ICH_HCR.mask("En")
_MAINTENANCE = ICH_HCR.mask("UIE", "LRENPIE", "NPIE", "VGrp0EIE", "VGrp0DIE", "VGrp1EIE", "VGrp1DIE")
_EOICOUNT = ICH_HCR.mask("EOIcount")
_EOICOUNT_ONE = ICH_HCR.make(EOIcount=1)
_ENABLES = ICH_VMCR.mask("VENG0", "VENG1")
_VCBPR = ICH_VMCR.mask("VCBPR")
_VEOIM = ICH_VMCR.mask("VEOIM")
_PMR_LOW = 24
_BPR0_LOW = 21
_BPR1_LOW = 18
_STATE_LOW = 62
_STATE = 3 << _STATE_LOW
_PENDING_BIT = LR_PENDING << _STATE_LOW
_ACTIVE_BIT = LR_ACTIVE << _STATE_LOW
_GROUP_LOW = 60
_PRIORITY_LOW = 48
_HW = ICH_LR.mask("HW")
_EOI = ICH_LR.mask("EOI")
_VINTID = ICH_LR.mask("vINTID")
_EMPTY = [0] * LIST_REGISTERS
_CTLR_FIXED = ICC_CTLR.make(PRIbits=PRIORITY_BITS - 1, A3V=1)


def vtr() -> int:
    """Value of ICH_VTR_EL2: 4 list registers, 5 priority and preemption bits, 16 INTID bits, no direct injection."""
    return ICH_VTR.make(
        ListRegs=LIST_REGISTERS - 1, TDS=1, nV4=1, A3V=1, PREbits=PRIORITY_BITS - 1, PRIbits=PRIORITY_BITS - 1
    )


class VirtualCpuInterface:
    """ICC_* registers of a guest over the ICH_* registers ``ich``, which may be exchanged for another guest's.

    ``deactivate_physical(pINTID)`` is called when the guest deactivates an interrupt whose list register has HW = 1.
    """

    __slots__ = ("deactivate_physical", "ich")

    def __init__(self, ich: IchState, deactivate_physical: Callable[[int], None] | None = None) -> None:
        self.ich = ich
        self.deactivate_physical = deactivate_physical

    # ---- signals ----

    def virq_pending(self) -> bool:
        """Whether the virtual IRQ signal is asserted: a Group 1 interrupt can be taken."""
        return self.signalled() == GROUP1

    def vfiq_pending(self) -> bool:
        """Whether the virtual FIQ signal is asserted: a Group 0 interrupt can be taken."""
        return self.signalled() == GROUP0

    def maintenance_pending(self) -> bool:
        """Whether the maintenance interrupt (PPI 25) is asserted."""
        ich = self.ich
        if not ich.hcr & _EN:
            return False
        lists = ich.lr[:LIST_REGISTERS]
        if not ich.hcr & _MAINTENANCE and (lists == _EMPTY or not any(lr & _EOI for lr in lists)):
            return False
        return self.misr() != 0

    def misr(self) -> int:
        """ICH_MISR_EL2."""
        ich = self.ich
        hcr, vmcr = ich.hcr, ich.vmcr
        states = [lr >> _STATE_LOW for lr in ich.lr[:LIST_REGISTERS]]
        valid = LIST_REGISTERS - states.count(LR_INVALID)
        group0, group1 = ICH_VMCR.get(vmcr, "VENG0"), ICH_VMCR.get(vmcr, "VENG1")
        return ICH_MISR.make(
            EOI=int(self.eisr() != 0),
            U=int(bool(ICH_HCR.get(hcr, "UIE")) and valid <= 1),
            LRENP=int(bool(ICH_HCR.get(hcr, "LRENPIE")) and bool(hcr & _EOICOUNT)),
            NP=int(bool(ICH_HCR.get(hcr, "NPIE")) and LR_PENDING not in states),
            VGrp0E=ICH_HCR.get(hcr, "VGrp0EIE") & group0,
            VGrp0D=ICH_HCR.get(hcr, "VGrp0DIE") & ~group0,
            VGrp1E=ICH_HCR.get(hcr, "VGrp1EIE") & group1,
            VGrp1D=ICH_HCR.get(hcr, "VGrp1DIE") & ~group1,
        )

    def eisr(self) -> int:
        """ICH_EISR_EL2: list registers that became invalid and ask for an EOI maintenance interrupt."""
        found = 0
        for index in range(LIST_REGISTERS):
            if self.ich.lr[index] & (_STATE | _HW | _EOI) == _EOI:
                found |= 1 << index
        return found

    def elrsr(self) -> int:
        """ICH_ELRSR_EL2: list registers that are free to use."""
        found = 0
        for index in range(LIST_REGISTERS):
            lr = self.ich.lr[index]
            if not lr & _STATE and (lr & _HW or not lr & _EOI):
                found |= 1 << index
        return found

    # ---- registers ----

    def read(self, name: str) -> int:
        """Value of an ICC_* register; reading an IAR acknowledges. Unknown and write-only registers read as zero."""
        ich = self.ich
        match name:
            case "ICC_IAR1_EL1":
                return self._acknowledge(GROUP1)
            case "ICC_IAR0_EL1":
                return self._acknowledge(GROUP0)
            case "ICC_HPPIR1_EL1":
                return self._highest(GROUP1)
            case "ICC_HPPIR0_EL1":
                return self._highest(GROUP0)
            case "ICC_PMR_EL1":
                return ich.vmcr >> _PMR_LOW & 0xFF
            case "ICC_RPR_EL1":
                return highest_active(ich.ap0r[0] | ich.ap1r[0])
            case "ICC_CTLR_EL1":
                vmcr = ich.vmcr
                return _CTLR_FIXED | ICC_CTLR.make(CBPR=int(bool(vmcr & _VCBPR)), EOImode=int(bool(vmcr & _VEOIM)))
            case "ICC_BPR0_EL1":
                return self._bpr0()
            case "ICC_BPR1_EL1":
                return min(self._bpr0() + 1, 7) if ich.vmcr & _VCBPR else self._bpr1()
            case "ICC_IGRPEN0_EL1":
                return ICH_VMCR.get(ich.vmcr, "VENG0")
            case "ICC_IGRPEN1_EL1":
                return ICH_VMCR.get(ich.vmcr, "VENG1")
            case "ICC_AP0R0_EL1":
                return ich.ap0r[0]
            case "ICC_AP1R0_EL1":
                return ich.ap1r[0]
            case "ICC_SRE_EL1":
                return SRE_EL1
        return 0

    def write(self, name: str, value: int) -> None:
        """Write an ICC_* register. Unknown and read-only registers ignore it."""
        ich = self.ich
        match name:
            case "ICC_EOIR1_EL1":
                self._end(GROUP1, value & 0xFF_FFFF)
            case "ICC_EOIR0_EL1":
                self._end(GROUP0, value & 0xFF_FFFF)
            case "ICC_DIR_EL1":
                if ich.vmcr & _VEOIM and not FIRST_SPECIAL <= value & 0xFF_FFFF <= SPURIOUS:
                    self._deactivate_by_id(value & 0xFF_FFFF)
            case "ICC_PMR_EL1":
                self._set_vmcr(_PMR_LOW, 0xFF, value & PRIORITY_MASK)
            case "ICC_CTLR_EL1":
                kept = ich.vmcr & ~(_VCBPR | _VEOIM)
                ich.vmcr = kept | ICH_VMCR.make(VCBPR=ICC_CTLR.get(value, "CBPR"), VEOIM=ICC_CTLR.get(value, "EOImode"))
            case "ICC_BPR0_EL1":
                self._set_vmcr(_BPR0_LOW, 7, max(value & 7, MIN_BPR0))
            case "ICC_BPR1_EL1":
                if not ich.vmcr & _VCBPR:
                    self._set_vmcr(_BPR1_LOW, 7, max(value & 7, MIN_BPR1))
            case "ICC_IGRPEN0_EL1":
                self._set_vmcr(0, 1, value & 1)
            case "ICC_IGRPEN1_EL1":
                self._set_vmcr(1, 1, value & 1)
            case "ICC_AP0R0_EL1":
                ich.ap0r[0] = value & 0xFFFF_FFFF
            case "ICC_AP1R0_EL1":
                ich.ap1r[0] = value & 0xFFFF_FFFF

    def _set_vmcr(self, low: int, mask: int, value: int) -> None:
        self.ich.vmcr = self.ich.vmcr & ~(mask << low) | value << low

    # EL2 software may leave less than the minimum in ICH_VMCR_EL2: the minimum then holds.

    def _bpr0(self) -> int:
        return max(self.ich.vmcr >> _BPR0_LOW & 7, MIN_BPR0)

    def _bpr1(self) -> int:
        return max(self.ich.vmcr >> _BPR1_LOW & 7, MIN_BPR1)

    # ---- priorities ----

    def _best(self) -> int | None:
        """The list register with the highest-priority pending interrupt of an enabled group, the lowest of equals."""
        ich = self.ich
        enabled = ich.vmcr & _ENABLES
        best, best_priority = None, 0x100
        for index in range(LIST_REGISTERS):
            lr = ich.lr[index]
            if lr >> _STATE_LOW != LR_PENDING or not enabled >> (lr >> _GROUP_LOW & 1) & 1:
                continue
            priority = lr >> _PRIORITY_LOW & 0xFF
            if priority < best_priority:
                best, best_priority = index, priority
        return best

    def _group_mask(self, group: int) -> int:
        if group == GROUP0 or self.ich.vmcr & _VCBPR:
            return group_priority_mask(GROUP0, self._bpr0())
        return group_priority_mask(GROUP1, self._bpr1())

    def _preempts(self, lr: int) -> bool:
        ich = self.ich
        priority = lr >> _PRIORITY_LOW & 0xFF
        if not ich.hcr & _EN or priority >= ich.vmcr >> _PMR_LOW & 0xFF:
            return False
        active = ich.ap0r[0] | ich.ap1r[0]
        if not active:
            return True
        mask = self._group_mask(lr >> _GROUP_LOW & 1)
        return (priority & mask) < (highest_active(active) & mask)

    def signalled(self) -> int | None:
        """Group of the interrupt that can be taken: one virtual signal is asserted at most."""
        ich = self.ich
        if not ich.hcr & _EN or ich.lr[:LIST_REGISTERS] == _EMPTY:
            return None
        best = self._best()
        if best is None:
            return None
        lr = self.ich.lr[best]
        return lr >> _GROUP_LOW & 1 if self._preempts(lr) else None

    # ---- the life of an interrupt ----

    def _highest(self, group: int) -> int:
        best = self._best()
        if best is None:
            return SPURIOUS
        lr = self.ich.lr[best]
        return lr & _VINTID if lr >> _GROUP_LOW & 1 == group else SPURIOUS

    def _acknowledge(self, group: int) -> int:
        best = self._best()
        if best is None:
            return SPURIOUS
        ich = self.ich
        lr = ich.lr[best]
        if lr >> _GROUP_LOW & 1 != group or not self._preempts(lr):
            return SPURIOUS
        intid = lr & _VINTID
        if FIRST_SPECIAL <= intid <= SPURIOUS:
            # EL2 software listed an INTID that names no interrupt: it goes without becoming active.
            ich.lr[best] = lr & ~_STATE
            return SPURIOUS
        running = (lr >> _PRIORITY_LOW & 0xFF) & self._group_mask(group)
        active = ich.ap1r if group == GROUP1 else ich.ap0r
        active[0] |= 1 << (running >> (8 - PRIORITY_BITS))
        ich.lr[best] = lr & ~_STATE | _ACTIVE_BIT
        return intid

    def _end(self, group: int, intid: int) -> None:
        """Priority drop, and deactivation unless EOImode separates the two.

        The highest active priority is dropped whatever the INTID. The list register is deactivated only if it is of the
        group of the register written and of the priority dropped. LPIs are always deactivated, and never counted.
        """
        if FIRST_SPECIAL <= intid <= SPURIOUS:
            return
        dropped = self._drop_priority()
        if self.ich.vmcr & _VEOIM and intid < FIRST_LPI:
            return
        index = self._find_active(intid)
        if index is None:
            if intid < FIRST_LPI:
                self._count_end()
            return
        lr = self.ich.lr[index]
        priority = (lr >> _PRIORITY_LOW & 0xFF) & self._group_mask(group)
        if lr >> _GROUP_LOW & 1 == group and priority == dropped:
            self._deactivate(index)

    def _drop_priority(self) -> int:
        ich = self.ich
        running = highest_active(ich.ap0r[0] | ich.ap1r[0])
        if running != IDLE_PRIORITY:
            active = ich.ap0r if highest_active(ich.ap0r[0]) == running else ich.ap1r
            active[0] &= active[0] - 1
        return running

    def _find_active(self, intid: int) -> int | None:
        for index in range(LIST_REGISTERS):
            lr = self.ich.lr[index]
            if lr & _ACTIVE_BIT and lr & _VINTID == intid:
                return index
        return None

    def _deactivate_by_id(self, intid: int) -> None:
        index = self._find_active(intid)
        if index is not None:
            self._deactivate(index)
        elif intid < FIRST_LPI:
            self._count_end()

    def _deactivate(self, index: int) -> None:
        lr = self.ich.lr[index]
        self.ich.lr[index] = lr & ~_ACTIVE_BIT
        if lr & _HW and self.deactivate_physical is not None:
            self.deactivate_physical(ICH_LR.get(lr, "pINTID"))

    def _count_end(self) -> None:
        """ICH_HCR_EL2.EOIcount: an end of an interrupt that is in no list register."""
        hcr = self.ich.hcr
        self.ich.hcr = hcr & ~_EOICOUNT | (hcr + _EOICOUNT_ONE) & _EOICOUNT
