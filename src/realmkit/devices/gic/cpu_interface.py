"""The physical GIC CPU interface of a PE: ICC_* system registers (Arm IHI 0069, 4.8 and 12.2).

Registers are named as the Arm ARM names them. Priorities have 5 bits (32 levels, all of them preemption levels), INTIDs
16 bits, ``ICC_SRE_*`` are fixed to system register access.
"""

from realmkit.arch.gic import (
    FIRST_SPECIAL,
    GROUP0,
    GROUP1,
    GROUP1_SECURE,
    ICC_CTLR,
    IDLE_PRIORITY,
    PRIORITY_BITS,
    PRIORITY_MASK,
    SPURIOUS,
)
from realmkit.devices.gic.bank import from_non_secure_priority, non_secure_priority
from realmkit.devices.gic.gicv3 import Gicv3, PendingInterrupt

MIN_BPR0 = 7 - PRIORITY_BITS
"""Least binary point of Group 0 (and of Secure Group 1): all implemented bits are group priority."""
MIN_BPR1 = MIN_BPR0 + 1
"""The same for Group 1, whose binary point counts from one bit higher (IHI 0069, 4.8.6)."""
SRE_EL1 = 0x7
SRE_EL2 = 0xF
_CBPR = ICC_CTLR.mask("CBPR")
_EOIMODE = ICC_CTLR.mask("EOImode")
_CTLR_FIXED = ICC_CTLR.make(PRIbits=PRIORITY_BITS - 1, A3V=1, RSS=1)
_GROUP_0 = frozenset(
    (
        "ICC_IAR0_EL1",
        "ICC_EOIR0_EL1",
        "ICC_HPPIR0_EL1",
        "ICC_BPR0_EL1",
        "ICC_IGRPEN0_EL1",
        "ICC_AP0R0_EL1",
        "ICC_SGI0R_EL1",
        "ICC_ASGI1R_EL1",
    )
)


def group_priority_mask(group: int, binary_point: int) -> int:
    """Mask of the bits of a priority that decide preemption, for a binary point of ``group`` (IHI 0069, 4.8.6)."""
    split = binary_point if group == GROUP1 else binary_point + 1
    return 0xFF << split & 0xFF


def highest_active(active_priorities: int) -> int:
    """Running priority for the active priority bits (bit n: priority n * 8), IDLE_PRIORITY if none is set."""
    if not active_priorities:
        return IDLE_PRIORITY
    return ((active_priorities & -active_priorities).bit_length() - 1) << (8 - PRIORITY_BITS)


class CpuInterface:
    """ICC_* registers of PE ``pe`` of ``gic``.

    The PE is in Secure state while :attr:`secure` is set, otherwise in Non-secure or Realm state, which are the same
    to the GIC. Where there are two security states, Non-secure software sees priorities shifted, owns only Group 1, and
    cannot use the registers of Group 0 (they trap to EL3 on hardware; here they read as "no interrupt" or zero).
    """

    __slots__ = ("_active", "_bpr", "_ctlr", "_enabled", "_gic", "_pe", "_pmr", "secure")

    def __init__(self, gic: Gicv3, pe: int) -> None:
        self._gic = gic
        self._pe = pe
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset (after EL3 firmware, with two security states: priority mask open)."""
        two = self._gic.two_security_states
        self.secure = False
        self._pmr = PRIORITY_MASK if two else 0
        self._bpr = [MIN_BPR0, MIN_BPR1, MIN_BPR0]
        self._active = [0, 0, 0]
        """Active priorities by group (ICC_AP0R0, ICC_AP1R0 of both states)."""
        self._ctlr = [0, 0]
        """CBPR and EOImode, Non-secure and Secure."""
        self._enabled = 1 << GROUP0 | 1 << GROUP1_SECURE if two else 0
        self._gic.set_interface_groups(self._pe, self._enabled)

    # ---- signals ----

    def interrupted(self) -> bool:
        """Whether the IRQ signal or the FIQ signal of the PE is asserted."""
        best = self._gic.highest_pending(self._pe)
        return best is not None and self._preempts(best)

    def irq_pending(self) -> bool:
        """Whether the IRQ signal of the PE is asserted: Group 1 of the PE's own security state."""
        best = self._gic.highest_pending(self._pe)
        return best is not None and best[2] == self._group1() and self._preempts(best)

    def fiq_pending(self) -> bool:
        """Whether the FIQ signal of the PE is asserted: Group 0, and Group 1 of the other security state."""
        best = self._gic.highest_pending(self._pe)
        return best is not None and best[2] != self._group1() and self._preempts(best)

    # ---- registers ----

    def read(self, name: str) -> int:
        """Value of an ICC_* register; reading an IAR acknowledges. Unknown and write-only registers read as zero."""
        if self._denied(name):
            return SPURIOUS if name in ("ICC_IAR0_EL1", "ICC_HPPIR0_EL1") else 0
        group1 = self._group1()
        match name:
            case "ICC_IAR1_EL1":
                return self._acknowledge(group1)
            case "ICC_IAR0_EL1":
                return self._acknowledge(GROUP0)
            case "ICC_HPPIR1_EL1":
                return self._highest(group1)
            case "ICC_HPPIR0_EL1":
                return self._highest(GROUP0)
            case "ICC_PMR_EL1":
                return self._view(self._pmr)
            case "ICC_RPR_EL1":
                running = highest_active(self._active[0] | self._active[1] | self._active[2])
                return running if running == IDLE_PRIORITY else self._view(running)
            case "ICC_CTLR_EL1":
                return self._ctlr[self.secure] | _CTLR_FIXED
            case "ICC_BPR0_EL1":
                return self._bpr[GROUP0]
            case "ICC_BPR1_EL1":
                return self._read_bpr1()
            case "ICC_IGRPEN0_EL1":
                return self._enabled >> GROUP0 & 1
            case "ICC_IGRPEN1_EL1":
                return self._enabled >> group1 & 1
            case "ICC_AP0R0_EL1":
                return self._active[GROUP0]
            case "ICC_AP1R0_EL1":
                return self._active[group1]
            case "ICC_SRE_EL1":
                return SRE_EL1
            case "ICC_SRE_EL2":
                return SRE_EL2
        return 0

    def write(self, name: str, value: int) -> None:
        """Write an ICC_* register. Unknown and read-only registers ignore it."""
        if self._denied(name):
            return
        group1 = self._group1()
        match name:
            case "ICC_EOIR1_EL1":
                self._end(group1, value & 0xFF_FFFF)
            case "ICC_EOIR0_EL1":
                self._end(GROUP0, value & 0xFF_FFFF)
            case "ICC_DIR_EL1":
                if self._ctlr[self.secure] & _EOIMODE:
                    self._deactivate(value & 0xFF_FFFF)
            case "ICC_PMR_EL1":
                self._write_pmr(value & 0xFF)
            case "ICC_SGI1R_EL1":
                self._gic.send_sgi(self._pe, value, group1)
            case "ICC_SGI0R_EL1" | "ICC_ASGI1R_EL1":
                self._send_other_sgi(name, value)
            case "ICC_IGRPEN0_EL1":
                self._enable(GROUP0, value & 1)
            case "ICC_IGRPEN1_EL1":
                self._enable(group1, value & 1)
            case "ICC_BPR0_EL1":
                self._bpr[GROUP0] = max(value & 7, MIN_BPR0)
            case "ICC_BPR1_EL1":
                if not self._ctlr[self.secure] & _CBPR:
                    self._bpr[group1] = max(value & 7, MIN_BPR1 if group1 == GROUP1 else MIN_BPR0)
            case "ICC_CTLR_EL1":
                # With two security states CBPR is EL3's to set, in ICC_CTLR_EL3.
                writable = _EOIMODE if self._gic.two_security_states else _EOIMODE | _CBPR
                self._ctlr[self.secure] = value & writable
            case "ICC_AP0R0_EL1":
                self._active[GROUP0] = value & 0xFFFF_FFFF
            case "ICC_AP1R0_EL1":
                self._active[group1] = value & 0xFFFF_FFFF

    # ---- security ----

    def _group1(self) -> int:
        return GROUP1_SECURE if self.secure and self._gic.two_security_states else GROUP1

    def _shifted(self) -> bool:
        return self._gic.two_security_states and not self.secure

    def _denied(self, name: str) -> bool:
        return self._shifted() and name in _GROUP_0

    def _view(self, priority: int) -> int:
        return non_secure_priority(priority) if self._shifted() else priority

    def _write_pmr(self, value: int) -> None:
        if not self._shifted():
            self._pmr = value & PRIORITY_MASK
        elif self._pmr & 0x80:
            # A mask in the upper half was set by Secure software: Non-secure writes do not reach it.
            self._pmr = from_non_secure_priority(value)

    def _send_other_sgi(self, name: str, value: int) -> None:
        """SGI0R, and ASGI1R: Group 1 of the other state, which with a single state is Group 0."""
        other = name == "ICC_ASGI1R_EL1" and self._gic.two_security_states
        self._gic.send_sgi(self._pe, value, GROUP1 if other else GROUP0)

    # ---- priorities ----

    def _group_mask(self, group: int) -> int:
        if group != GROUP0 and self._ctlr[group == GROUP1_SECURE] & _CBPR:
            group = GROUP0
        return group_priority_mask(group, self._bpr[group])

    def _preempts(self, interrupt: PendingInterrupt) -> bool:
        priority = interrupt[1]
        if priority >= self._pmr:
            return False
        active = self._active[0] | self._active[1] | self._active[2]
        if not active:
            return True
        mask = self._group_mask(interrupt[2])
        return (priority & mask) < (highest_active(active) & mask)

    def _read_bpr1(self) -> int:
        if not self._ctlr[self.secure] & _CBPR:
            return self._bpr[self._group1()]
        return min(self._bpr[GROUP0] + 1, 7) if self._group1() == GROUP1 else self._bpr[GROUP0]

    # ---- the life of an interrupt ----

    def _highest(self, group: int) -> int:
        best = self._gic.highest_pending(self._pe)
        return best[0] if best is not None and best[2] == group else SPURIOUS

    def _acknowledge(self, group: int) -> int:
        best = self._gic.highest_pending(self._pe)
        if best is None or best[2] != group or not self._preempts(best):
            return SPURIOUS
        intid, priority, _ = best
        running = priority & self._group_mask(group)
        self._active[group] |= 1 << (running >> (8 - PRIORITY_BITS))
        self._gic.acknowledge(self._pe, intid)
        return intid

    def _end(self, group: int, intid: int) -> None:
        """Priority drop, and deactivation unless EOImode separates the two (IHI 0069, 4.6).

        An end of interrupt that does not belong to the group of the running priority is ignored.
        """
        if intid >= FIRST_SPECIAL:
            return
        running = highest_active(self._active[0] | self._active[1] | self._active[2])
        if not self._active[group] or highest_active(self._active[group]) != running:
            return
        self._active[group] &= self._active[group] - 1
        if not self._ctlr[self.secure] & _EOIMODE:
            self._deactivate(intid)

    def _deactivate(self, intid: int) -> None:
        if self._shifted() and self._gic.group_of(self._pe, intid) != GROUP1:
            return
        self._gic.deactivate(self._pe, intid)

    def _enable(self, group: int, on: int) -> None:
        self._enabled = self._enabled & ~(1 << group) | on << group
        self._gic.set_interface_groups(self._pe, self._enabled)
