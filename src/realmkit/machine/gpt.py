"""Granule protection tables: registers, entry formats and the walk (Arm ARM D9; spec: monitor-rme section 3).

Pure functions of two registers and memory, for every PPS, PGS and L0GPTSZ of the architecture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from realmkit.arch.fields import RegisterTable
from realmkit.arch.pas import Gpi, Pas, SecurityState

GPCCR_EL3: Final = RegisterTable(
    "GPCCR_EL3",
    PPS=(0, 2),
    RLPAD=(5, 5),
    NSPAD=(6, 6),
    SPAD=(7, 7),
    IRGN=(8, 9),
    ORGN=(10, 11),
    SH=(12, 13),
    PGS=(14, 15),
    GPC=(16, 16),
    GPCP=(17, 17),
    TBGPCD=(18, 18),
    NSO=(19, 19),
    L0GPTSZ=(20, 23),
    APPSAA=(24, 24),
)
GPTBR_EL3: Final = RegisterTable("GPTBR_EL3", BADDR=(0, 39))

PPS_BITS: Final = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52}
"""GPCCR_EL3.PPS: protected physical address bits (t)."""
PGS_SHIFT: Final = {0: 12, 1: 16, 2: 14}
"""GPCCR_EL3.PGS: log2 of the granule size (p)."""
L0GPTSZ_SHIFT: Final = {0: 30, 4: 34, 6: 36, 9: 39}
"""GPCCR_EL3.L0GPTSZ: log2 of the bytes that one level 0 entry describes (s)."""
CONTIGUOUS_SIZE: Final = {1: 2 << 20, 2: 32 << 20, 3: 512 << 20}
"""Contig field of a level 1 Contiguous descriptor: bytes it describes."""

SH_OUTER: Final = 0b10
RGN_WRITE_BACK: Final = 0b01
GRANULES_PER_ENTRY: Final = 16
TYPE_BLOCK: Final = 1
TYPE_TABLE: Final = 3
TYPE_CONTIGUOUS: Final = 1
_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
_ANY: Final = int(Gpi.ANY)
_BASE_GPIS: Final = (Gpi.NO_ACCESS, Gpi.SECURE, Gpi.NS, Gpi.ROOT, Gpi.REALM, Gpi.ANY)
_PAD_BIT: Final = {Pas.SECURE: "SPAD", Pas.NS: "NSPAD", Pas.REALM: "RLPAD"}


class GpcFaultKind(Enum):
    """Kinds of granule protection check fault; the value is GPCSC of level 0."""

    ADDRESS_SIZE = 0x00
    WALK = 0x04
    PROTECTION = 0x0C
    EXTERNAL_ABORT = 0x14


@dataclass(frozen=True, slots=True)
class GpcFault:
    """The outcome of a failed check. ``gpi`` is what the tables say, for a granule protection fault found in them."""

    kind: GpcFaultKind
    level: int
    gpi: Gpi | None = None

    @property
    def gpcsc(self) -> int:
        """GPCSC field of the ISS of a GPC exception."""
        return self.kind.value | self.level


class GpiResult(NamedTuple):
    """What the tables say of an address: its GPI, at which level, for how many bytes around it (aligned)."""

    gpi: Gpi
    level: int
    size: int


@dataclass(frozen=True, slots=True)
class GptConfig:
    """GPCCR_EL3 and GPTBR_EL3 decoded: t, s, p are the exponents of monitor-rme 3.2."""

    enabled: bool
    t: int
    s: int
    p: int
    base: int
    level1_size: int
    """Bytes of a level 1 table."""
    gpis: tuple[Gpi | None, ...]
    """By encoding: the GPI, None for a reserved one. NS_ONLY is valid with GPCCR_EL3.NSO."""
    gpi_digits: str
    """Encodings of the valid GPIs as hexadecimal digits."""
    above_pps_all_access: bool
    disabled_pas: frozenset[Pas]

    @classmethod
    def decode(cls, gpccr: int, gptbr: int, pa_bits: int = 48) -> "GptConfig | GpcFault":
        """Decode the registers; a level 0 walk fault when GPCCR_EL3 is enabled with reserved or inconsistent values.

        ``pa_bits`` are the physical address bits that the PE implements.
        """
        get = GPCCR_EL3.get
        t = PPS_BITS.get(get(gpccr, "PPS"), 0)
        s = L0GPTSZ_SHIFT.get(get(gpccr, "L0GPTSZ"), 0)
        p = PGS_SHIFT.get(get(gpccr, "PGS"), 0)
        shareability = get(gpccr, "SH")
        non_cacheable = not gpccr & GPCCR_EL3.mask("IRGN", "ORGN")
        valid = (
            0 < t <= pa_bits and s and p and shareability != 0b01 and (not non_cacheable or shareability == SH_OUTER)
        )
        enabled = bool(get(gpccr, "GPC"))
        if enabled and not valid:
            return GpcFault(GpcFaultKind.WALK, 0)
        alignment = max(t - s + 3, 12)
        base = GPTBR_EL3.get(gptbr, "BADDR") << 12 >> alignment << alignment
        disabled = frozenset(pas for pas, bit in _PAD_BIT.items() if get(gpccr, bit))
        known = {int(gpi): gpi for gpi in (*_BASE_GPIS, *([Gpi.NS_ONLY] if get(gpccr, "NSO") else []))}
        return cls(
            enabled=enabled,
            t=t,
            s=s,
            p=p,
            base=base,
            level1_size=8 << (s - p - 4) if valid else 0,
            gpis=tuple(known.get(code) for code in range(16)),
            gpi_digits="".join(f"{code:x}" for code in known),
            above_pps_all_access=bool(get(gpccr, "APPSAA")),
            disabled_pas=disabled,
        )

    @property
    def level0_size(self) -> int:
        """Bytes of the level 0 table."""
        return 8 << max(self.t - self.s, 0)


def level0_block(gpi: Gpi) -> int:
    """Level 0 Block descriptor."""
    return TYPE_BLOCK | gpi << 4


def level0_table(base: int) -> int:
    """Level 0 Table descriptor of the level 1 table at ``base``."""
    return TYPE_TABLE | base


def level1_granules(gpi: Gpi) -> int:
    """Level 1 Granules descriptor with the same GPI for all sixteen granules."""
    return int(gpi) * 0x1111_1111_1111_1111


def level1_contiguous(gpi: Gpi, size: int) -> int:
    """Level 1 Contiguous descriptor; ``size`` is 2 MB, 32 MB or 512 MB (ValueError otherwise)."""
    for contig, described in CONTIGUOUS_SIZE.items():
        if described == size:
            return TYPE_CONTIGUOUS | gpi << 4 | contig << 8
    raise ValueError(f"a contiguous descriptor cannot describe {size:#x} bytes")


def allows(gpi: Gpi, pas: Pas, state: SecurityState | None = None) -> bool:
    """Whether a GPI permits an access to ``pas``.

    Only NS_ONLY looks at the ``state`` of the requester (None: it is Non-secure).
    """
    if gpi == 8 | pas or gpi == _ANY:
        return True
    return gpi == Gpi.NS_ONLY and pas == Pas.NS and state in (None, SecurityState.NS, SecurityState.ROOT)


def walk(config: GptConfig, read64: Callable[[int], int], pa: int) -> GpiResult | GpcFault:
    """Look up the GPI of ``pa``, which lies below 2^PPS (faults 4 to 7, 9 and 10 of monitor-rme 3.3).

    ``read64`` reads the Root physical address space and raises LookupError where nothing answers.
    """
    limit = 1 << config.t
    if config.base >= limit:
        return GpcFault(GpcFaultKind.ADDRESS_SIZE, 0)
    try:
        entry = read64(config.base + (pa >> config.s << 3))
    except LookupError:
        return GpcFault(GpcFaultKind.EXTERNAL_ABORT, 0)
    kind = entry & 0xF
    if kind == TYPE_BLOCK:
        gpi = config.gpis[entry >> 4] if entry >> 8 == 0 else None
        if gpi is None:
            return GpcFault(GpcFaultKind.WALK, 0)
        return GpiResult(gpi, 0, 1 << config.s)
    table = entry & _ADDRESS
    if kind != TYPE_TABLE or entry != table | TYPE_TABLE or table & (config.level1_size - 1):
        return GpcFault(GpcFaultKind.WALK, 0)
    if table >= limit:
        return GpcFault(GpcFaultKind.ADDRESS_SIZE, 0)
    index = (pa & (1 << config.s) - 1) >> config.p + 4
    try:
        entry = read64(table + (index << 3))
    except LookupError:
        return GpcFault(GpcFaultKind.EXTERNAL_ABORT, 1)
    if entry & 0xF == TYPE_CONTIGUOUS:
        return _contiguous(entry, config)
    return _granules(entry, config.gpi_digits, config.p)[pa >> config.p & 0xF]


def _contiguous(entry: int, config: GptConfig) -> GpiResult | GpcFault:
    """What a level 1 Contiguous descriptor says."""
    size = CONTIGUOUS_SIZE.get(entry >> 8)
    gpi = config.gpis[entry >> 4 & 0xF]
    if size is None or gpi is None:
        return GpcFault(GpcFaultKind.WALK, 1)
    return GpiResult(gpi, 1, size)


@lru_cache(maxsize=4096)  # few values are in use at a time: neighbours tend to belong to one world
def _granules(entry: int, valid_digits: str, p: int) -> tuple[GpiResult | GpcFault, ...]:
    """What a level 1 Granules descriptor says of its sixteen granules: faults unless every one of the GPIs is valid."""
    digits = f"{entry:016x}"
    if digits.strip(valid_digits):
        return (GpcFault(GpcFaultKind.WALK, 1),) * GRANULES_PER_ENTRY
    return tuple(GpiResult(Gpi(int(digit, 16)), 1, 1 << p) for digit in reversed(digits))


def check(
    config: GptConfig | GpcFault,
    read64: Callable[[int], int],
    pas: Pas,
    pa: int,
    state: SecurityState | None = None,
) -> GpcFault | None:
    """The granule protection check of one access: None when it may proceed (monitor-rme 3.3, in that order)."""
    if isinstance(config, GpcFault):
        return config
    if not config.enabled:
        return None
    if pas in config.disabled_pas:
        return GpcFault(GpcFaultKind.PROTECTION, 0)
    if pa >> config.t:
        if pas is Pas.NS or config.above_pps_all_access:
            return None
        return GpcFault(GpcFaultKind.PROTECTION, 0)
    result = walk(config, read64, pa)
    if isinstance(result, GpcFault):
        return result
    if allows(result.gpi, pas, state):
        return None
    return GpcFault(GpcFaultKind.PROTECTION, result.level, result.gpi)
