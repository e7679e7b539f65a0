"""Identification registers of the machine's PEs: what they have, and nothing that they do not model.

The engine implements more (SVE, pointer authentication, random numbers, VHE, MTE); registers here say what software
may use.
"""

from collections.abc import Mapping
from typing import Final

from realmkit.arch.time import TICKS_PER_SECOND

BREAKPOINTS: Final = 6
WATCHPOINTS: Final = 4
_AA64: Final = 1


def values() -> Mapping[str, int]:
    """Values by name; identification registers that are not listed are zero."""
    return {
        "MIDR_EL1": 0x0000_0000_000F_0510,
        "REVIDR_EL1": 0,
        # EL0-EL3 AArch64 only, FP and AdvSIMD, GICv3 system registers, RME. CSV2, CSV3: nothing here speculates.
        "ID_AA64PFR0_EL1": _AA64 | _AA64 << 4 | _AA64 << 8 | _AA64 << 12 | 1 << 24 | 1 << 52 | 1 << 56 | 1 << 60,
        "ID_AA64PFR1_EL1": 0,
        "ID_AA64ZFR0_EL1": 0,
        "ID_AA64SMFR0_EL1": 0,
        # Armv8 debug; numbers are "minus one".
        "ID_AA64DFR0_EL1": 6 | (BREAKPOINTS - 1) << 12 | (WATCHPOINTS - 1) << 20 | 1 << 28,
        "ID_AA64DFR1_EL1": 0,
        # AES, PMULL, SHA1, SHA2 (SHA512), CRC32, atomics, RDM, SHA3, SM3, SM4, dot product, FHM, TS.
        "ID_AA64ISAR0_EL1": 0x0011_1111_1021_2120,
        # DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES.
        "ID_AA64ISAR1_EL1": 0x0000_0111_0011_1001,
        "ID_AA64ISAR2_EL1": 0,
        # 48-bit PA, 16-bit ASID, mixed endianness not at EL0, 16/64/4 KB granules at stage 1, 4 KB at stage 2.
        "ID_AA64MMFR0_EL1": 0x5 | 2 << 4 | 1 << 20 | 0 << 24 | 0 << 28 | 2 << 40 | 1 << 32 | 1 << 36,
        # Hardware access flag and dirty state, 8-bit VMID, hierarchical permission disables, PAN, XNX.
        "ID_AA64MMFR1_EL1": 2 | 1 << 12 | 1 << 20 | 1 << 28,
        # 48-bit VA, FWB, E0PD.
        "ID_AA64MMFR2_EL1": 1 << 40 | 1 << 60,
        # Instruction cache lines of 4 KB, as software is told to maintain them: one IC IVAU then covers a page, which
        # is the unit in which code is translated. Data need no cleaning (IDC).
        "CTR_EL0": 0x9444_C00A,
        "DCZID_EL0": 0x4,
        "CNTFRQ_EL0": TICKS_PER_SECOND,
    }
