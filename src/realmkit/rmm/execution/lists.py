"""List registers: what a Host may hand in, and what an exit reports (spec: rec-run section 5)."""

from collections.abc import Sequence
from typing import Final

from realmkit.arch.gic import FIRST_LPI, FIRST_SPECIAL, ICH_HCR, ICH_LR, LIST_REGISTERS, PRIORITY_MASK, IchState
from realmkit.arch.rmi import GICV3_HCR_HOST_MASK

EXIT_HCR_MASK: Final = GICV3_HCR_HOST_MASK | ICH_HCR.mask("EOIcount")
RMM_HCR: Final = ICH_HCR.make(En=1, vSGIEOICount=0)
_ID_LIMIT: Final = 1 << 16
_PINTID_WITHOUT_EOI: Final = ICH_LR.mask("pINTID") & ~ICH_LR.mask("EOI")
_HW: Final = ICH_LR.mask("HW")
_ZEROS: Final = (0,) * 16


def is_valid(hcr: int, lrs: Sequence[int]) -> bool:
    """The condition ``rec_gicv3`` is false: only host bits in HCR, and every used list register is a valid encoding."""
    if hcr & ~GICV3_HCR_HOST_MASK:
        return False
    seen: set[int] = set()
    for value in lrs[:LIST_REGISTERS]:
        if not value >> 62:
            continue
        intid = value & 0xFFFF_FFFF
        if value & (_HW | _PINTID_WITHOUT_EOI) or (value >> 48 & 0xFF) & ~PRIORITY_MASK or value >> 45 & 7:
            return False
        if value >> 56 & 0xF or not (intid < FIRST_SPECIAL or FIRST_LPI <= intid < _ID_LIMIT) or intid in seen:
            return False
        seen.add(intid)
    return True


def load(ich: IchState, hcr: int, lrs: Sequence[int]) -> None:
    """Program the virtual interface for an entry."""
    ich.hcr = hcr | RMM_HCR
    ich.lr[:LIST_REGISTERS] = lrs[:LIST_REGISTERS]


def misr(ich: IchState) -> int:
    """ICH_MISR_EL2: maintenance interrupts that are asserted."""
    hcr, lrs = ich.hcr, ich.lr[:LIST_REGISTERS]
    valid = sum(1 for value in lrs if value >> 62)
    pending = any(value >> 62 == 1 for value in lrs)
    group0, group1 = ich.vmcr & 1, ich.vmcr >> 1 & 1
    eoi = any(not value >> 62 and value >> 41 & 1 and not value >> 61 & 1 for value in lrs)
    return (
        int(eoi)
        | (hcr >> 1 & 1 and int(valid <= 1)) << 1
        | (hcr >> 2 & 1 and int(hcr >> 27 != 0)) << 2
        | (hcr >> 3 & 1 and int(not pending)) << 3
        | (hcr >> 4 & 1 & group0) << 4
        | (hcr >> 5 & 1 & (group0 ^ 1)) << 5
        | (hcr >> 6 & 1 & group1) << 6
        | (hcr >> 7 & 1 & (group1 ^ 1)) << 7
    )


def reported(ich: IchState) -> tuple[int, tuple[int, ...], int, int]:
    """(HCR, 16 list registers, MISR, VMCR) of an exit record."""
    lrs = (*ich.lr[:LIST_REGISTERS], *_ZEROS[LIST_REGISTERS:])
    return ich.hcr & EXIT_HCR_MASK, lrs, misr(ich), ich.vmcr
