"""System registers that Unicorn keeps, and the bits that the execution part looks at."""

from typing import Final

from realmkit.arch.sysregs import ENCODINGS, Encoding
from realmkit.arch.vmsa import HCR_EL2
from realmkit.machine.core.id_registers import BREAKPOINTS, WATCHPOINTS

HCR_FMO: Final = HCR_EL2.mask("FMO")
HCR_IMO: Final = HCR_EL2.mask("IMO")
HCR_VF: Final = HCR_EL2.mask("VF")
HCR_VI: Final = HCR_EL2.mask("VI")
HCR_VSE: Final = HCR_EL2.mask("VSE")
HCR_TWI: Final = HCR_EL2.mask("TWI")
HCR_TWE: Final = HCR_EL2.mask("TWE")
HCR_TID3: Final = HCR_EL2.mask("TID3")
HCR_TSC: Final = HCR_EL2.mask("TSC")
HCR_TGE: Final = HCR_EL2.mask("TGE")
HCR_RW: Final = HCR_EL2.mask("RW")
HCR_E2H: Final = HCR_EL2.mask("E2H")
HCR_TRANSLATION: Final = HCR_EL2.mask("VM") | HCR_EL2.mask("TGE") | HCR_EL2.mask("DC") | HCR_EL2.mask("FWB")
"""Bits that change what an address means."""
PAN: Final = 1 << 22
PSTATE_KEPT: Final = 0xF100_0000
"""NZCV and DIT: what exception entry leaves alone."""

RESIDENT: Final[dict[str, Encoding]] = {
    name: ENCODINGS[name]
    for name in (
        "SCTLR_EL1",
        "TTBR0_EL1",
        "TTBR1_EL1",
        "TCR_EL1",
        "MAIR_EL1",
        "VBAR_EL1",
        "ELR_EL1",
        "SPSR_EL1",
        "ESR_EL1",
        "FAR_EL1",
        "SP_EL0",
        "SP_EL1",
        "TPIDR_EL0",
        "TPIDRRO_EL0",
        "TPIDR_EL1",
        "CONTEXTIDR_EL1",
        "CPACR_EL1",
        "PAR_EL1",
        "CNTKCTL_EL1",
        "MDSCR_EL1",
        "AFSR0_EL1",
        "AFSR1_EL1",
        "AMAIR_EL1",
        "CSSELR_EL1",
        *(f"DBG{kind}R{n}_EL1" for n in range(BREAKPOINTS) for kind in ("BV", "BC")),
        *(f"DBG{kind}R{n}_EL1" for n in range(WATCHPOINTS) for kind in ("WV", "WC")),
        "VMPIDR_EL2",
        "VPIDR_EL2",
    )
}
"""Registers of EL0 and EL1, and what EL1 reads of EL2's."""

RESIDENT_EL2: Final[dict[str, Encoding]] = {
    name: ENCODINGS[name]
    for name in (
        "SCTLR_EL2",
        "TTBR0_EL2",
        "TCR_EL2",
        "MAIR_EL2",
        "VBAR_EL2",
        "ELR_EL2",
        "SPSR_EL2",
        "ESR_EL2",
        "FAR_EL2",
        "HPFAR_EL2",
        "TPIDR_EL2",
        "VTTBR_EL2",
        "VTCR_EL2",
    )
} | {"SP_EL2": (3, 6, 4, 1, 0)}
"""Registers of EL2 itself, for contexts that run there. SP_EL2 has an encoding for EL3 only."""
