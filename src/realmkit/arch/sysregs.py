"""System registers of EL0, EL1 and EL2 by name and by encoding (Arm ARM D24, D23.3).

Only names and encodings: what a register does, and whether a PE has it, is the business of whoever emulates it.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Encoding = tuple[int, int, int, int, int]
"""(op0, op1, CRn, CRm, op2) as in the assembler's S<op0>_<op1>_C<CRn>_C<CRm>_<op2>."""

_Group = dict[str, tuple[int, int, int]]
"""Register name to (CRn, CRm, op2) under one (op0, op1)."""

_GENERIC: Final = re.compile(r"S([0-3])_([0-7])_C(\d|1[0-5])_C(\d|1[0-5])_([0-7])", re.ASCII)


def _row(crn: int, crm: int, *names: str | None) -> _Group:
    """Registers whose op2 counts from 0; None leaves a place out."""
    return {name: (crn, crm, op2) for op2, name in enumerate(names) if name is not None}


def _bank(crn: int, crm: int, count: int, pattern: str) -> _Group:
    """Numbered registers, eight to a CRm."""
    return {pattern.format(n): (crn, crm + (n >> 3), n & 7) for n in range(count)}


_DEBUG_EL1: Final[_Group] = {
    **{f"DBGBVR{n}_EL1": (0, n, 4) for n in range(16)},
    **{f"DBGBCR{n}_EL1": (0, n, 5) for n in range(16)},
    **{f"DBGWVR{n}_EL1": (0, n, 6) for n in range(16)},
    **{f"DBGWCR{n}_EL1": (0, n, 7) for n in range(16)},
    "OSDTRRX_EL1": (0, 0, 2),
    "MDCCINT_EL1": (0, 2, 0),
    "MDSCR_EL1": (0, 2, 2),
    "OSDTRTX_EL1": (0, 3, 2),
    "OSECCR_EL1": (0, 6, 2),
    "MDRAR_EL1": (1, 0, 0),
    "OSLAR_EL1": (1, 0, 4),
    "OSLSR_EL1": (1, 1, 4),
    "OSDLR_EL1": (1, 3, 4),
    "DBGPRCR_EL1": (1, 4, 4),
    "DBGCLAIMSET_EL1": (7, 8, 6),
    "DBGCLAIMCLR_EL1": (7, 9, 6),
    "DBGAUTHSTATUS_EL1": (7, 14, 6),
}
_DEBUG_EL0: Final[_Group] = {"MDCCSR_EL0": (0, 1, 0), "DBGDTR_EL0": (0, 4, 0), "DBGDTRRX_EL0": (0, 5, 0)}
_DEBUG_EL2: Final[_Group] = {"DBGVCR32_EL2": (0, 7, 0)}

_EL1: Final[_Group] = {
    **_row(0, 0, "MIDR_EL1", None, None, None, None, "MPIDR_EL1", "REVIDR_EL1"),
    **_row(0, 1, "ID_PFR0_EL1", "ID_PFR1_EL1", "ID_DFR0_EL1", "ID_AFR0_EL1"),
    **_row(0, 1, None, None, None, None, "ID_MMFR0_EL1", "ID_MMFR1_EL1", "ID_MMFR2_EL1", "ID_MMFR3_EL1"),
    **_bank(0, 2, 6, "ID_ISAR{}_EL1"),
    **_row(0, 2, None, None, None, None, None, None, "ID_MMFR4_EL1", "ID_ISAR6_EL1"),
    **_row(0, 3, "MVFR0_EL1", "MVFR1_EL1", "MVFR2_EL1", None, "ID_PFR2_EL1", "ID_DFR1_EL1", "ID_MMFR5_EL1"),
    **_row(0, 4, "ID_AA64PFR0_EL1", "ID_AA64PFR1_EL1", "ID_AA64PFR2_EL1", None, "ID_AA64ZFR0_EL1"),
    **_row(0, 4, None, None, None, None, None, "ID_AA64SMFR0_EL1", None, "ID_AA64FPFR0_EL1"),
    **_row(0, 5, "ID_AA64DFR0_EL1", "ID_AA64DFR1_EL1", "ID_AA64DFR2_EL1", None, "ID_AA64AFR0_EL1", "ID_AA64AFR1_EL1"),
    **_bank(0, 6, 4, "ID_AA64ISAR{}_EL1"),
    **_bank(0, 7, 5, "ID_AA64MMFR{}_EL1"),
    **_row(1, 0, "SCTLR_EL1", "ACTLR_EL1", "CPACR_EL1", "SCTLR2_EL1", None, "RGSR_EL1", "GCR_EL1"),
    **_row(1, 2, "ZCR_EL1", "TRFCR_EL1", None, None, "SMPRI_EL1", None, "SMCR_EL1"),
    **_row(2, 0, "TTBR0_EL1", "TTBR1_EL1", "TCR_EL1", "TCR2_EL1"),
    **_row(2, 1, "APIAKeyLo_EL1", "APIAKeyHi_EL1", "APIBKeyLo_EL1", "APIBKeyHi_EL1"),
    **_row(2, 2, "APDAKeyLo_EL1", "APDAKeyHi_EL1", "APDBKeyLo_EL1", "APDBKeyHi_EL1"),
    **_row(2, 3, "APGAKeyLo_EL1", "APGAKeyHi_EL1"),
    **_row(4, 0, "SPSR_EL1", "ELR_EL1"),
    **_row(4, 1, "SP_EL0"),
    **_row(4, 2, "SPSel", None, "CurrentEL", "PAN", "UAO"),
    **_row(4, 3, "ALLINT"),
    **_row(4, 6, "ICC_PMR_EL1"),
    **_row(5, 1, "AFSR0_EL1", "AFSR1_EL1"),
    **_row(5, 2, "ESR_EL1"),
    **_row(5, 3, "ERRIDR_EL1", "ERRSELR_EL1"),
    **_row(5, 4, "ERXFR_EL1", "ERXCTLR_EL1", "ERXSTATUS_EL1", "ERXADDR_EL1"),
    **_row(5, 4, None, None, None, None, "ERXPFGF_EL1", "ERXPFGCTL_EL1", "ERXPFGCDN_EL1"),
    **_bank(5, 5, 4, "ERXMISC{}_EL1"),
    **_row(5, 6, "TFSR_EL1", "TFSRE0_EL1"),
    **_row(6, 0, "FAR_EL1"),
    **_row(7, 4, "PAR_EL1"),
    **_row(9, 9, "PMSCR_EL1", None, "PMSICR_EL1", "PMSIRR_EL1"),
    **_row(9, 9, None, None, None, None, "PMSFCR_EL1", "PMSEVFR_EL1", "PMSLATFR_EL1", "PMSIDR_EL1"),
    **_row(9, 10, "PMBLIMITR_EL1", "PMBPTR_EL1", None, "PMBSR_EL1", None, None, None, "PMBIDR_EL1"),
    **_row(9, 11, "TRBLIMITR_EL1", "TRBPTR_EL1", "TRBBASER_EL1", "TRBSR_EL1"),
    **_row(9, 11, None, None, None, None, "TRBMAR_EL1", None, "TRBTRG_EL1", "TRBIDR_EL1"),
    **_row(9, 14, None, "PMINTENSET_EL1", "PMINTENCLR_EL1", None, None, None, "PMMIR_EL1"),
    **_row(10, 2, "MAIR_EL1"),
    **_row(10, 3, "AMAIR_EL1"),
    **_row(10, 4, "LORSA_EL1", "LOREA_EL1", "LORN_EL1", "LORC_EL1", "MPAMIDR_EL1", None, None, "LORID_EL1"),
    **_row(10, 5, "MPAM1_EL1", "MPAM0_EL1"),
    **_row(12, 0, "VBAR_EL1", "RVBAR_EL1", "RMR_EL1"),
    **_row(12, 1, "ISR_EL1", "DISR_EL1"),
    **_row(12, 8, "ICC_IAR0_EL1", "ICC_EOIR0_EL1", "ICC_HPPIR0_EL1", "ICC_BPR0_EL1"),
    **{f"ICC_AP0R{n}_EL1": (12, 8, 4 + n) for n in range(4)},
    **_bank(12, 9, 4, "ICC_AP1R{}_EL1"),
    **_row(12, 9, None, None, None, None, None, "ICC_NMIAR1_EL1"),
    **_row(12, 11, None, "ICC_DIR_EL1", None, "ICC_RPR_EL1"),
    **_row(12, 11, None, None, None, None, None, "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1", "ICC_SGI0R_EL1"),
    **_row(12, 12, "ICC_IAR1_EL1", "ICC_EOIR1_EL1", "ICC_HPPIR1_EL1", "ICC_BPR1_EL1"),
    **_row(12, 12, None, None, None, None, "ICC_CTLR_EL1", "ICC_SRE_EL1", "ICC_IGRPEN0_EL1", "ICC_IGRPEN1_EL1"),
    **_row(13, 0, None, "CONTEXTIDR_EL1", None, None, "TPIDR_EL1", "ACCDATA_EL1", None, "SCXTNUM_EL1"),
    **_row(14, 1, "CNTKCTL_EL1"),
}
_CACHE: Final[_Group] = _row(
    0, 0, "CCSIDR_EL1", "CLIDR_EL1", "CCSIDR2_EL1", None, "GMID_EL1", None, "SMIDR_EL1", "AIDR_EL1"
)
_CACHE_SELECT: Final[_Group] = _row(0, 0, "CSSELR_EL1")

_EL0: Final[_Group] = {
    **_row(0, 0, None, "CTR_EL0", None, None, None, None, None, "DCZID_EL0"),
    **_row(2, 4, "RNDR", "RNDRRS"),
    **_row(4, 2, "NZCV", "DAIF", "SVCR", None, None, "DIT", "SSBS", "TCO"),
    **_row(4, 4, "FPCR", "FPSR"),
    **_row(4, 5, "DSPSR_EL0", "DLR_EL0"),
    **_row(9, 12, "PMCR_EL0", "PMCNTENSET_EL0", "PMCNTENCLR_EL0", "PMOVSCLR_EL0"),
    **_row(9, 12, None, None, None, None, "PMSWINC_EL0", "PMSELR_EL0", "PMCEID0_EL0", "PMCEID1_EL0"),
    **_row(9, 13, "PMCCNTR_EL0", "PMXEVTYPER_EL0", "PMXEVCNTR_EL0"),
    **_row(9, 14, "PMUSERENR_EL0", None, None, "PMOVSSET_EL0"),
    **_row(13, 0, None, None, "TPIDR_EL0", "TPIDRRO_EL0", None, "TPIDR2_EL0", None, "SCXTNUM_EL0"),
    **_row(13, 2, "AMCR_EL0", "AMCFGR_EL0", "AMCGCR_EL0", "AMUSERENR_EL0", "AMCNTENCLR0_EL0", "AMCNTENSET0_EL0"),
    **_row(14, 0, "CNTFRQ_EL0", "CNTPCT_EL0", "CNTVCT_EL0", None, None, "CNTPCTSS_EL0", "CNTVCTSS_EL0"),
    **_row(14, 2, "CNTP_TVAL_EL0", "CNTP_CTL_EL0", "CNTP_CVAL_EL0"),
    **_row(14, 3, "CNTV_TVAL_EL0", "CNTV_CTL_EL0", "CNTV_CVAL_EL0"),
    **_bank(14, 8, 31, "PMEVCNTR{}_EL0"),
    **_bank(14, 12, 31, "PMEVTYPER{}_EL0"),
    "PMCCFILTR_EL0": (14, 15, 7),
}

_EL2: Final[_Group] = {
    **_row(0, 0, "VPIDR_EL2", None, None, None, None, "VMPIDR_EL2"),
    **_row(1, 0, "SCTLR_EL2", "ACTLR_EL2", None, "SCTLR2_EL2"),
    **_row(1, 1, "HCR_EL2", "MDCR_EL2", "CPTR_EL2", "HSTR_EL2", "HFGRTR_EL2", "HFGWTR_EL2", "HFGITR_EL2", "HACR_EL2"),
    **_row(1, 2, "ZCR_EL2", "TRFCR_EL2", "HCRX_EL2", None, None, "SMPRIMAP_EL2", "SMCR_EL2"),
    **_row(1, 3, None, "SDER32_EL2"),
    **_row(2, 0, "TTBR0_EL2", "TTBR1_EL2", "TCR_EL2", "TCR2_EL2"),
    **_row(2, 1, "VTTBR_EL2", None, "VTCR_EL2"),
    **_row(2, 2, "VNCR_EL2"),
    **_row(2, 6, "VSTTBR_EL2", None, "VSTCR_EL2"),
    **_row(3, 0, "DACR32_EL2"),
    **_row(3, 1, None, None, None, None, "HDFGRTR_EL2", "HDFGWTR_EL2", "HAFGRTR_EL2"),
    **_row(4, 0, "SPSR_EL2", "ELR_EL2"),
    **_row(4, 1, "SP_EL1"),
    **_row(4, 3, "SPSR_irq", "SPSR_abt", "SPSR_und", "SPSR_fiq"),
    **_row(5, 0, None, "IFSR32_EL2"),
    **_row(5, 1, "AFSR0_EL2", "AFSR1_EL2"),
    **_row(5, 2, "ESR_EL2", None, None, "VSESR_EL2"),
    **_row(5, 3, "FPEXC32_EL2"),
    **_row(5, 6, "TFSR_EL2"),
    **_row(6, 0, "FAR_EL2", None, None, None, "HPFAR_EL2"),
    **_row(9, 9, "PMSCR_EL2"),
    **_row(10, 2, "MAIR_EL2"),
    **_row(10, 3, "AMAIR_EL2"),
    **_row(10, 4, "MPAMHCR_EL2", "MPAMVPMV_EL2"),
    **_row(10, 5, "MPAM2_EL2"),
    **_row(12, 0, "VBAR_EL2", "RVBAR_EL2", "RMR_EL2"),
    **_row(12, 1, None, "VDISR_EL2"),
    **_bank(12, 8, 4, "ICH_AP0R{}_EL2"),
    **_bank(12, 9, 4, "ICH_AP1R{}_EL2"),
    **_row(12, 9, None, None, None, None, None, "ICC_SRE_EL2"),
    **_row(12, 11, "ICH_HCR_EL2", "ICH_VTR_EL2", "ICH_MISR_EL2", "ICH_EISR_EL2"),
    **_row(12, 11, None, None, None, None, None, "ICH_ELRSR_EL2", None, "ICH_VMCR_EL2"),
    **_bank(12, 12, 16, "ICH_LR{}_EL2"),
    **_row(13, 0, None, "CONTEXTIDR_EL2", "TPIDR_EL2", None, None, None, None, "SCXTNUM_EL2"),
    **_row(14, 0, None, None, None, "CNTVOFF_EL2", None, None, "CNTPOFF_EL2"),
    **_row(14, 1, "CNTHCTL_EL2"),
    **_row(14, 2, "CNTHP_TVAL_EL2", "CNTHP_CTL_EL2", "CNTHP_CVAL_EL2"),
    **_row(14, 3, "CNTHV_TVAL_EL2", "CNTHV_CTL_EL2", "CNTHV_CVAL_EL2"),
    **_row(14, 4, "CNTHVS_TVAL_EL2", "CNTHVS_CTL_EL2", "CNTHVS_CVAL_EL2"),
    **_row(14, 5, "CNTHPS_TVAL_EL2", "CNTHPS_CTL_EL2", "CNTHPS_CVAL_EL2"),
}


def _under(op0: int, op1: int, group: _Group) -> dict[str, Encoding]:
    return {name: (op0, op1, *place) for name, place in group.items()}


ENCODINGS: Final[Mapping[str, Encoding]] = MappingProxyType(
    _under(2, 0, _DEBUG_EL1)
    | _under(2, 3, _DEBUG_EL0)
    | _under(2, 4, _DEBUG_EL2)
    | _under(3, 0, _EL1)
    | _under(3, 1, _CACHE)
    | _under(3, 2, _CACHE_SELECT)
    | _under(3, 3, _EL0)
    | _under(3, 4, _EL2)
)
"""Architectural name to encoding. DBGDTRRX_EL0 stands for the place it shares with DBGDTRTX_EL0."""

NAMES: Final[Mapping[Encoding, str]] = MappingProxyType({place: name for name, place in ENCODINGS.items()})
"""Encoding to architectural name."""


def name_of(encoding: Encoding) -> str:
    """The register's name, or the assembler's generic form (``S3_0_C15_C2_0``) when it has none here."""
    name = NAMES.get(encoding)
    return "S{}_{}_C{}_C{}_{}".format(*encoding) if name is None else name


def encoding_of(name: str) -> Encoding:
    """The encoding of a name, generic form included; raises KeyError for anything else."""
    known = ENCODINGS.get(name)
    if known is not None:
        return known
    generic = _GENERIC.fullmatch(name)
    if generic is None:
        raise KeyError(name)
    op0, op1, crn, crm, op2 = (int(part) for part in generic.groups())
    return op0, op1, crn, crm, op2


def instruction_encoding(word: int) -> Encoding:
    """The encoding that an MRS, MSR (register), SYS or SYSL instruction word names."""
    return word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7
