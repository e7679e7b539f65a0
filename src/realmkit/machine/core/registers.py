"""System registers by name: which of them Unicorn keeps, and their encodings."""

from typing import Final

Encoding = tuple[int, int, int, int, int]
"""(op0, op1, CRn, CRm, op2)."""

RESIDENT: Final[dict[str, Encoding]] = {
    "SCTLR_EL1": (3, 0, 1, 0, 0),
    "TTBR0_EL1": (3, 0, 2, 0, 0),
    "TTBR1_EL1": (3, 0, 2, 0, 1),
    "TCR_EL1": (3, 0, 2, 0, 2),
    "MAIR_EL1": (3, 0, 10, 2, 0),
    "VBAR_EL1": (3, 0, 12, 0, 0),
    "ELR_EL1": (3, 0, 4, 0, 1),
    "SPSR_EL1": (3, 0, 4, 0, 0),
    "ESR_EL1": (3, 0, 5, 2, 0),
    "FAR_EL1": (3, 0, 6, 0, 0),
    "SP_EL0": (3, 0, 4, 1, 0),
    "SP_EL1": (3, 4, 4, 1, 0),
    "TPIDR_EL0": (3, 3, 13, 0, 2),
    "TPIDRRO_EL0": (3, 3, 13, 0, 3),
    "TPIDR_EL1": (3, 0, 13, 0, 4),
    "CONTEXTIDR_EL1": (3, 0, 13, 0, 1),
    "CPACR_EL1": (3, 0, 1, 0, 2),
    "PAR_EL1": (3, 0, 7, 4, 0),
    "CNTKCTL_EL1": (3, 0, 14, 1, 0),
    "MDSCR_EL1": (2, 0, 0, 2, 2),
    "SCTLR_EL2": (3, 4, 1, 0, 0),
    "TTBR0_EL2": (3, 4, 2, 0, 0),
    "TCR_EL2": (3, 4, 2, 0, 2),
    "MAIR_EL2": (3, 4, 10, 2, 0),
    "VBAR_EL2": (3, 4, 12, 0, 0),
    "ELR_EL2": (3, 4, 4, 0, 1),
    "SPSR_EL2": (3, 4, 4, 0, 0),
    "ESR_EL2": (3, 4, 5, 2, 0),
    "FAR_EL2": (3, 4, 6, 0, 0),
    "HPFAR_EL2": (3, 4, 6, 0, 4),
    "TPIDR_EL2": (3, 4, 13, 0, 2),
    "VTTBR_EL2": (3, 4, 2, 1, 0),
    "VTCR_EL2": (3, 4, 2, 1, 2),
    "VMPIDR_EL2": (3, 4, 0, 0, 5),
    "VPIDR_EL2": (3, 4, 0, 0, 0),
}
