"""System registers that Unicorn does not have or has wrongly: names, and what reading and writing them does."""

from typing import Final

from realmkit.machine.core.registers import Encoding


def _numbered(prefix: str, suffix: str, place: tuple[int, int, int], crm: int, count: int) -> dict[Encoding, str]:
    op0, op1, crn = place
    return {(op0, op1, crn, crm + (n >> 3), n & 7): f"{prefix}{n}{suffix}" for n in range(count)}


NAMES: Final[dict[Encoding, str]] = {
    (3, 0, 4, 6, 0): "ICC_PMR_EL1",
    (3, 0, 12, 8, 0): "ICC_IAR0_EL1",
    (3, 0, 12, 8, 1): "ICC_EOIR0_EL1",
    (3, 0, 12, 8, 2): "ICC_HPPIR0_EL1",
    (3, 0, 12, 8, 3): "ICC_BPR0_EL1",
    (3, 0, 12, 8, 4): "ICC_AP0R0_EL1",
    (3, 0, 12, 8, 5): "ICC_AP0R1_EL1",
    (3, 0, 12, 8, 6): "ICC_AP0R2_EL1",
    (3, 0, 12, 8, 7): "ICC_AP0R3_EL1",
    (3, 0, 12, 9, 0): "ICC_AP1R0_EL1",
    (3, 0, 12, 9, 1): "ICC_AP1R1_EL1",
    (3, 0, 12, 9, 2): "ICC_AP1R2_EL1",
    (3, 0, 12, 9, 3): "ICC_AP1R3_EL1",
    (3, 0, 12, 11, 1): "ICC_DIR_EL1",
    (3, 0, 12, 11, 3): "ICC_RPR_EL1",
    (3, 0, 12, 11, 5): "ICC_SGI1R_EL1",
    (3, 0, 12, 11, 6): "ICC_ASGI1R_EL1",
    (3, 0, 12, 11, 7): "ICC_SGI0R_EL1",
    (3, 0, 12, 12, 0): "ICC_IAR1_EL1",
    (3, 0, 12, 12, 1): "ICC_EOIR1_EL1",
    (3, 0, 12, 12, 2): "ICC_HPPIR1_EL1",
    (3, 0, 12, 12, 3): "ICC_BPR1_EL1",
    (3, 0, 12, 12, 4): "ICC_CTLR_EL1",
    (3, 0, 12, 12, 5): "ICC_SRE_EL1",
    (3, 0, 12, 12, 6): "ICC_IGRPEN0_EL1",
    (3, 0, 12, 12, 7): "ICC_IGRPEN1_EL1",
    (3, 4, 12, 9, 5): "ICC_SRE_EL2",
    (3, 4, 12, 11, 0): "ICH_HCR_EL2",
    (3, 4, 12, 11, 1): "ICH_VTR_EL2",
    (3, 4, 12, 11, 2): "ICH_MISR_EL2",
    (3, 4, 12, 11, 3): "ICH_EISR_EL2",
    (3, 4, 12, 11, 5): "ICH_ELRSR_EL2",
    (3, 4, 12, 11, 7): "ICH_VMCR_EL2",
    **_numbered("ICH_AP0R", "_EL2", (3, 4, 12), 8, 4),
    **_numbered("ICH_AP1R", "_EL2", (3, 4, 12), 9, 4),
    **_numbered("ICH_LR", "_EL2", (3, 4, 12), 12, 16),
    (3, 3, 14, 0, 0): "CNTFRQ_EL0",
    (3, 3, 14, 0, 1): "CNTPCT_EL0",
    (3, 3, 14, 0, 2): "CNTVCT_EL0",
    (3, 3, 14, 0, 5): "CNTPCT_EL0",
    (3, 3, 14, 0, 6): "CNTVCT_EL0",
    (3, 3, 14, 2, 0): "CNTP_TVAL_EL0",
    (3, 3, 14, 2, 1): "CNTP_CTL_EL0",
    (3, 3, 14, 2, 2): "CNTP_CVAL_EL0",
    (3, 3, 14, 3, 0): "CNTV_TVAL_EL0",
    (3, 3, 14, 3, 1): "CNTV_CTL_EL0",
    (3, 3, 14, 3, 2): "CNTV_CVAL_EL0",
    (3, 4, 14, 0, 3): "CNTVOFF_EL2",
    (3, 4, 14, 1, 0): "CNTHCTL_EL2",
    (3, 4, 14, 2, 0): "CNTHP_TVAL_EL2",
    (3, 4, 14, 2, 1): "CNTHP_CTL_EL2",
    (3, 4, 14, 2, 2): "CNTHP_CVAL_EL2",
    (3, 4, 14, 3, 0): "CNTHV_TVAL_EL2",
    (3, 4, 14, 3, 1): "CNTHV_CTL_EL2",
    (3, 4, 14, 3, 2): "CNTHV_CVAL_EL2",
    (3, 0, 0, 0, 0): "MIDR_EL1",
    (3, 0, 0, 0, 5): "MPIDR_EL1",
    (3, 0, 0, 0, 6): "REVIDR_EL1",
    (3, 0, 0, 4, 0): "ID_AA64PFR0_EL1",
    (3, 0, 0, 4, 1): "ID_AA64PFR1_EL1",
    (3, 0, 0, 4, 4): "ID_AA64ZFR0_EL1",
    (3, 0, 0, 4, 5): "ID_AA64SMFR0_EL1",
    (3, 0, 0, 5, 0): "ID_AA64DFR0_EL1",
    (3, 0, 0, 5, 1): "ID_AA64DFR1_EL1",
    (3, 0, 0, 6, 0): "ID_AA64ISAR0_EL1",
    (3, 0, 0, 6, 1): "ID_AA64ISAR1_EL1",
    (3, 0, 0, 6, 2): "ID_AA64ISAR2_EL1",
    (3, 0, 0, 7, 0): "ID_AA64MMFR0_EL1",
    (3, 0, 0, 7, 1): "ID_AA64MMFR1_EL1",
    (3, 0, 0, 7, 2): "ID_AA64MMFR2_EL1",
    (3, 3, 0, 0, 1): "CTR_EL0",
    (3, 3, 0, 0, 7): "DCZID_EL0",
    (2, 0, 1, 0, 4): "OSLAR_EL1",
    (2, 0, 1, 3, 4): "OSDLR_EL1",
}

ENCODINGS: Final[dict[str, Encoding]] = {name: place for place, name in reversed(NAMES.items())}


def encoding(word: int) -> Encoding:
    """The register of an MRS or MSR (register) instruction."""
    return word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7
