"""List registers: what a Host may hand in, and what an exit reports (spec: rec-run section 5)."""

from collections.abc import Sequence
from typing import Final

from realmkit.arch.gic import FIRST_LPI, FIRST_SPECIAL, ICH_HCR, ICH_LR, LIST_REGISTERS, PRIORITY_MASK, IchState
from realmkit.arch.rmi import GICV3_HCR_HOST_MASK

_EXIT_HCR: Final = GICV3_HCR_HOST_MASK | ICH_HCR.mask("EOIcount")
_ENABLED: Final = ICH_HCR.mask("En")
_INTID_LIMIT: Final = 1 << 16
"""ICH_VTR_EL2.IDbits: 16-bit interrupt identifiers."""
_EOI: Final = ICH_LR.mask("EOI")
_HW: Final = ICH_LR.mask("HW")
_STATE: Final = ICH_LR.mask("State")
_INVALID_BITS: Final = (~ICH_LR.mask("vINTID", "EOI", "Priority", "Group", "State") | (0xFF & ~PRIORITY_MASK) << 48) & (
    1 << 64
) - 1
"""HW, pINTID except its EOI bit, RES0 bits, and priority bits that are not implemented."""
_PENDING: Final = 1
_UNUSED: Final = (0,) * (16 - LIST_REGISTERS)
_NONE_IN_USE: Final = [0] * LIST_REGISTERS


def is_valid(hcr: int, lrs: Sequence[int]) -> bool:
    """Whether the condition ``rec_gicv3`` is false: only the Host's bits in ICH_HCR, and valid list registers in use.

    ``lrs`` may be longer than the number of list registers that are implemented: the rest is ignored.
    """
    if hcr & ~GICV3_HCR_HOST_MASK:
        return False
    used = lrs[:LIST_REGISTERS]
    if not any(used):
        return True
    seen: set[int] = set()
    for value in used:
        if not value & _STATE:
            continue
        intid = value & 0xFFFF_FFFF
        if value & _INVALID_BITS or intid in seen:
            return False
        if not (intid < FIRST_SPECIAL or FIRST_LPI <= intid < _INTID_LIMIT):
            return False
        seen.add(intid)
    return True


def load(ich: IchState, hcr: int, lrs: Sequence[int]) -> None:
    """Program the virtual interface for an entry."""
    ich.hcr = hcr | _ENABLED
    ich.lr[:LIST_REGISTERS] = lrs[:LIST_REGISTERS]


def are_used(ich: IchState) -> bool:
    """Whether :func:`save` would report anything but ICH_VMCR."""
    return bool(ich.hcr & _EXIT_HCR) or ich.lr[:LIST_REGISTERS] != _NONE_IN_USE


def switch_off(ich: IchState) -> None:
    """The Realm is not running: its virtual interface is off."""
    ich.hcr = 0


def save(ich: IchState) -> tuple[int, ...]:
    """gicv3_hcr, the 16 gicv3_lrs, gicv3_misr and gicv3_vmcr of an exit; the virtual interface is off afterwards."""
    values = (ich.hcr & _EXIT_HCR, *ich.lr[:LIST_REGISTERS], *_UNUSED, misr(ich), ich.vmcr)
    switch_off(ich)
    return values


def misr(ich: IchState) -> int:
    """ICH_MISR_EL2: the maintenance interrupts that are asserted."""
    hcr, lrs = ich.hcr, ich.lr[:LIST_REGISTERS]
    result = 0
    for value in lrs:
        if value & (_STATE | _HW | _EOI) == _EOI:
            result = 1  # EOI
    if not hcr & GICV3_HCR_HOST_MASK:
        return result
    if hcr >> 1 & 1 and sum(1 for value in lrs if value & _STATE) <= 1:
        result |= 1 << 1  # U
    if hcr >> 2 & 1 and hcr >> 27:
        result |= 1 << 2  # LRENP
    if hcr >> 3 & 1 and all(value >> 62 != _PENDING for value in lrs):
        result |= 1 << 3  # NP
    enabled = ich.vmcr & 0b11
    # VGrp0E, VGrp0D, VGrp1E, VGrp1D stand where their enables stand in ICH_HCR_EL2.
    groups = (0b01 if enabled & 1 else 0b10) | (0b0100 if enabled & 2 else 0b1000)
    return result | hcr & groups << 4
