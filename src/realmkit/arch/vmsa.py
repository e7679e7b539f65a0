"""VMSAv8-64 translation table facts used by software that builds tables (Arm ARM D8; spec: rtt section 10)."""

from realmkit.arch.fields import RegisterTable

ENTRIES = 512
TABLE_SIZE = 4096
ADDR_MASK_48 = 0x0000_FFFF_FFFF_F000

DESC_VALID = 1 << 0
DESC_TABLE = 0b11  # at levels -1..2
DESC_BLOCK = 0b01  # at levels 0..2
DESC_PAGE = 0b11  # at level 3
S1_ATTRINDX = (2, 4)
S1_NS = 1 << 5  # EL3, R-EL2 stage 1
S1_AP_EL0 = 1 << 6  # AP[1]
S1_AP_RO = 1 << 7  # AP[2]
DESC_SH_INNER = 0b11 << 8
DESC_AF = 1 << 10
S1_NG = 1 << 11
S1_DBM = 1 << 51
S1_CONTIG = 1 << 52
S1_PXN = 1 << 53
S1_UXN = 1 << 54
S2_MEMATTR_SHIFT = 2
S2_AP_READ = 1 << 6
S2_AP_WRITE = 1 << 7
S2_DBM = 1 << 51
S2_XN = 0b10 << 53
S2_XN_MASK = 0b11 << 53
S2_NS = 1 << 55

TCR_EL1 = RegisterTable(
    "TCR_EL1",
    T0SZ=(0, 5),
    EPD0=(7, 7),
    IRGN0=(8, 9),
    ORGN0=(10, 11),
    SH0=(12, 13),
    TG0=(14, 15),
    T1SZ=(16, 21),
    A1=(22, 22),
    EPD1=(23, 23),
    IRGN1=(24, 25),
    ORGN1=(26, 27),
    SH1=(28, 29),
    TG1=(30, 31),
    IPS=(32, 34),
    AS=(36, 36),
    TBI0=(37, 37),
    TBI1=(38, 38),
    HA=(39, 39),
    HD=(40, 40),
    HPD0=(41, 41),
    HPD1=(42, 42),
    E0PD0=(55, 55),
    E0PD1=(56, 56),
    DS=(59, 59),
)
TCR_EL2 = RegisterTable(
    "TCR_EL2",
    T0SZ=(0, 5),
    IRGN0=(8, 9),
    ORGN0=(10, 11),
    SH0=(12, 13),
    TG0=(14, 15),
    PS=(16, 18),
    TBI=(20, 20),
    HA=(21, 21),
    HD=(22, 22),
    HPD=(24, 24),
    DS=(32, 32),
)
VTCR_EL2 = RegisterTable(
    "VTCR_EL2",
    T0SZ=(0, 5),
    SL0=(6, 7),
    IRGN0=(8, 9),
    ORGN0=(10, 11),
    SH0=(12, 13),
    TG0=(14, 15),
    PS=(16, 18),
    VS=(19, 19),
    HA=(21, 21),
    HD=(22, 22),
    DS=(32, 32),
    SL2=(33, 33),
)
HCR_EL2 = RegisterTable(
    "HCR_EL2",
    VM=(0, 0),
    SWIO=(1, 1),
    PTW=(2, 2),
    FMO=(3, 3),
    IMO=(4, 4),
    AMO=(5, 5),
    VF=(6, 6),
    VI=(7, 7),
    VSE=(8, 8),
    FB=(9, 9),
    BSU=(10, 11),
    DC=(12, 12),
    TWI=(13, 13),
    TWE=(14, 14),
    TID0=(15, 15),
    TID1=(16, 16),
    TID2=(17, 17),
    TID3=(18, 18),
    TSC=(19, 19),
    TIDCP=(20, 20),
    TACR=(21, 21),
    TSW=(22, 22),
    TPCP=(23, 23),
    TPU=(24, 24),
    TTLB=(25, 25),
    TVM=(26, 26),
    TGE=(27, 27),
    TDZ=(28, 28),
    HCD=(29, 29),
    TRVM=(30, 30),
    RW=(31, 31),
    E2H=(34, 34),
    TEA=(37, 37),
    APK=(40, 40),
    API=(41, 41),
    FWB=(46, 46),
    GPF=(48, 48),
)


def shift(level: int) -> int:
    """log2 of the size that one entry of a 4 KB granule table covers."""
    return 12 + 9 * (3 - level)


def entry_size(level: int) -> int:
    """Bytes covered by one entry at ``level`` (-1..3)."""
    return 1 << shift(level)


def starting_tables(ipa_width: int, level_start: int) -> int | None:
    """Number of concatenated starting tables for a stage 2 input size, or None where the pair is not valid.

    4 KB granule, no LPA2: widths of 32 to 48 bits, starting levels 0..2 (spec: rtt section 2).
    """
    if not 32 <= ipa_width <= 48 or level_start not in (0, 1, 2):
        return None
    covered = shift(level_start) + 9
    if ipa_width < shift(level_start) + 1:
        return None
    number = 1 if ipa_width <= covered else 1 << (ipa_width - covered)
    return number if number <= 16 else None
