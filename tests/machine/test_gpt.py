from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.pas import Gpi, Pas, SecurityState
from realmkit.machine.gpt import (
    CONTIGUOUS_SIZE,
    GPCCR_EL3,
    GPTBR_EL3,
    L0GPTSZ_SHIFT,
    PGS_SHIFT,
    PPS_BITS,
    GpcFault,
    GpcFaultKind,
    GpiResult,
    GptConfig,
    allows,
    check,
    level0_block,
    level0_table,
    level1_contiguous,
    level1_granules,
    walk,
)

GIB = 1 << 30
ROOT_BASE = 0x4000_0000
L1 = 0x5000_0000
VALID = {Gpi.NO_ACCESS, Gpi.SECURE, Gpi.NS, Gpi.ROOT, Gpi.REALM, Gpi.ANY}
FULL = {"PPS": 5, "PGS": 0, "L0GPTSZ": 0, "IRGN": 1, "ORGN": 1, "SH": 3, "GPC": 1}


class Words:
    """Memory of 64-bit words; what was never written does not answer."""

    def __init__(self, words: dict[int, int]) -> None:
        self._words = words

    def __call__(self, pa: int) -> int:
        return self._words[pa]


def config(base: int = ROOT_BASE, **fields: int) -> GptConfig | GpcFault:
    return GptConfig.decode(GPCCR_EL3.make(**{**FULL, **fields}), GPTBR_EL3.make(BADDR=base >> 12))


def good(base: int = ROOT_BASE, **fields: int) -> GptConfig:
    decoded = config(base, **fields)
    assert isinstance(decoded, GptConfig)
    return decoded


# ---- registers ----


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"SH": 2}, True),
        ({"SH": 0}, True),
        ({"PPS": 0}, True),
        ({"PPS": 6}, False),  # 52 bits: more than this PE implements
        ({"PPS": 7}, False),
        ({"PGS": 3}, False),
        ({"L0GPTSZ": 1}, False),
        ({"L0GPTSZ": 9}, True),
        ({"SH": 1}, False),
        ({"IRGN": 0, "ORGN": 0, "SH": 3}, False),
        ({"IRGN": 0, "ORGN": 0, "SH": 2}, True),
        ({"IRGN": 0, "ORGN": 1, "SH": 3}, True),
    ],
)
def test_reserved_and_inconsistent_configurations_are_walk_faults(fields: dict[str, int], valid: bool) -> None:
    decoded = config(**fields)
    assert isinstance(decoded, GptConfig) == valid
    if not valid:
        assert decoded == GpcFault(GpcFaultKind.WALK, 0)
        assert check(decoded, Words({}), Pas.NS, 0) == decoded


def test_a_disabled_check_ignores_the_configuration() -> None:
    decoded = config(GPC=0, PGS=3)
    for pas in Pas:
        assert check(decoded, Words({}), pas, 1 << 51) is None


@pytest.mark.parametrize(
    ("l0gptsz", "pgs", "size"),
    [(0, 0, 128 << 10), (4, 0, 2 << 20), (6, 0, 8 << 20), (9, 0, 64 << 20), (0, 1, 8 << 10), (0, 2, 32 << 10)],
)
def test_level_1_table_sizes(l0gptsz: int, pgs: int, size: int) -> None:
    assert good(L0GPTSZ=l0gptsz, PGS=pgs).level1_size == size


@pytest.mark.parametrize(("pps", "l0gptsz", "size"), [(5, 0, 2 << 20), (0, 0, 32), (0, 4, 8), (2, 6, 128)])
def test_level_0_table_sizes(pps: int, l0gptsz: int, size: int) -> None:
    assert good(PPS=pps, L0GPTSZ=l0gptsz).level0_size == size


def test_base_bits_below_the_alignment_of_the_level_0_table_are_ignored() -> None:
    assert good(0x401F_F000).base == 0x4000_0000
    assert good(0x401F_F000, PPS=0).base == 0x401F_F000


# ---- entry formats ----


def test_encodings_are_the_architecture_s() -> None:
    assert level0_block(Gpi.ANY) == 0xF1
    assert level0_table(0x8_0002_0000) == 0x8_0002_0003
    assert level1_granules(Gpi.NS) == 0x9999_9999_9999_9999
    assert level1_contiguous(Gpi.REALM, 2 << 20) == 0x1B1
    assert level1_contiguous(Gpi.REALM, 32 << 20) == 0x2B1
    assert level1_contiguous(Gpi.REALM, 512 << 20) == 0x3B1


def test_no_other_contiguous_sizes() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        level1_contiguous(Gpi.NS, 1 << 20)


@pytest.mark.parametrize(("pas", "gpi"), [(p, g) for p in Pas for g in VALID])
def test_a_gpi_permits_the_space_it_names(pas: Pas, gpi: Gpi) -> None:
    named = {Gpi.SECURE: Pas.SECURE, Gpi.NS: Pas.NS, Gpi.ROOT: Pas.ROOT, Gpi.REALM: Pas.REALM}
    assert allows(gpi, pas) == (gpi is Gpi.ANY or named.get(gpi) is pas)


@pytest.mark.parametrize(
    ("state", "pas", "allowed"),
    [
        (SecurityState.NS, Pas.NS, True),
        (SecurityState.ROOT, Pas.NS, True),
        (SecurityState.REALM, Pas.NS, False),
        (SecurityState.SECURE, Pas.NS, False),
        (SecurityState.REALM, Pas.REALM, False),
        (SecurityState.ROOT, Pas.ROOT, False),
    ],
)
def test_ns_only_looks_at_the_state_of_the_requester(state: SecurityState, pas: Pas, allowed: bool) -> None:
    words = Words({ROOT_BASE: level0_block(Gpi.NS_ONLY)})
    assert (check(good(NSO=1), words, pas, 0, state) is None) == allowed


# ---- walk ----

BLOCK_AT = ROOT_BASE + 2 * 8
PA = 2 * GIB + 0x1234_5678
ENTRY_AT = L1 + (0x1234_5678 >> 16) * 8


def level1(entry: int) -> Words:
    return Words({BLOCK_AT: level0_table(L1), ENTRY_AT: entry})


@pytest.mark.parametrize("gpi", sorted(VALID))
def test_block_contiguous_and_granules_give_their_gpi(gpi: Gpi) -> None:
    assert walk(good(), Words({BLOCK_AT: level0_block(gpi)}), PA) == GpiResult(gpi, 0, GIB)
    for size in CONTIGUOUS_SIZE.values():
        assert walk(good(), level1(level1_contiguous(gpi, size)), PA) == GpiResult(gpi, 1, size)
    nibble = (PA >> 12 & 0xF) * 4
    others = level1_granules(Gpi.ANY) & ~(0xF << nibble)
    assert walk(good(), level1(others | gpi << nibble), PA) == GpiResult(gpi, 1, 4096)


WALK0, WALK1 = GpcFault(GpcFaultKind.WALK, 0), GpcFault(GpcFaultKind.WALK, 1)


@pytest.mark.parametrize(
    "entry",
    [0, 2, 5, 0xF, *(level0_block(Gpi.NS) | 1 << bit for bit in (8, 11, 12, 52, 63))]
    + [1 | gpi << 4 for gpi in range(16) if gpi not in VALID]
    + [level0_table(L1) | 1 << bit for bit in (4, 11, 12, 16, 52, 63)],
)
def test_invalid_level_0_entries(entry: int) -> None:
    assert walk(good(), Words({BLOCK_AT: entry}), PA) == WALK0


@pytest.mark.parametrize(
    "entry",
    [1 | Gpi.NS << 4, *(0x191 | 1 << bit for bit in (10, 11, 12, 63))]
    + [0x101 | gpi << 4 for gpi in range(16) if gpi not in VALID]
    + [level1_granules(Gpi.NS) & ~(0xF << 60) | gpi << 60 for gpi in range(16) if gpi not in VALID],
)
def test_invalid_level_1_entries(entry: int) -> None:
    assert walk(good(), level1(entry), PA) == WALK1


def test_ns_only_is_reserved_without_nso() -> None:
    assert walk(good(), Words({BLOCK_AT: 0xD1}), PA) == WALK0
    assert walk(good(NSO=1), Words({BLOCK_AT: 0xD1}), PA) == GpiResult(Gpi.NS_ONLY, 0, GIB)
    assert walk(good(NSO=1), level1(level1_granules(Gpi.NS_ONLY)), PA) == GpiResult(Gpi.NS_ONLY, 1, 4096)


@dataclass(frozen=True)
class Case:
    """A situation with several faults at once: the one of highest priority is reported."""

    pas: Pas
    pa: int
    fields: dict[str, int]
    words: dict[int, int]
    fault: GpcFault | None
    base: int = ROOT_BASE


PROTECTION0, PROTECTION1 = GpcFault(GpcFaultKind.PROTECTION, 0), GpcFault(GpcFaultKind.PROTECTION, 1)
SIZE0 = GpcFault(GpcFaultKind.ADDRESS_SIZE, 0)
ABORT0, ABORT1 = GpcFault(GpcFaultKind.EXTERNAL_ABORT, 0), GpcFault(GpcFaultKind.EXTERNAL_ABORT, 1)
FAR = 1 << 48

CASES = {
    "1 before 2": Case(Pas.NS, PA, {"PGS": 3, "NSPAD": 1}, {}, WALK0),
    "2 Secure disabled": Case(Pas.SECURE, FAR, {"SPAD": 1}, {}, PROTECTION0),
    "2 NS disabled": Case(Pas.NS, FAR, {"NSPAD": 1}, {}, PROTECTION0),
    "2 Realm disabled": Case(Pas.REALM, PA, {"RLPAD": 1}, {BLOCK_AT: 0xB1}, PROTECTION0),
    "2 Root cannot be disabled": Case(Pas.ROOT, PA, {"RLPAD": 1, "SPAD": 1}, {BLOCK_AT: 0xA1}, None),
    "3 Secure beyond PPS": Case(Pas.SECURE, FAR, {}, {}, PROTECTION0),
    "3 Realm beyond PPS": Case(Pas.REALM, FAR, {}, {}, PROTECTION0),
    "3 Root beyond PPS": Case(Pas.ROOT, FAR, {}, {}, PROTECTION0),
    "3 Non-secure beyond PPS passes": Case(Pas.NS, FAR, {}, {}, None),
    "3 before 4": Case(Pas.ROOT, 1 << 32, {"PPS": 0}, {}, PROTECTION0, 1 << 33),
    "3 not with APPSAA": Case(Pas.REALM, FAR, {"APPSAA": 1}, {}, None),
    "4 base beyond PPS": Case(Pas.NS, PA, {"PPS": 0}, {}, SIZE0, 1 << 33),
    "5 level 0 does not answer": Case(Pas.NS, PA, {}, {}, ABORT0),
    "6 invalid level 0 entry": Case(Pas.NS, PA, {}, {BLOCK_AT: 0}, WALK0),
    "7 level 1 table beyond PPS": Case(Pas.NS, PA, {"PPS": 0}, {BLOCK_AT: level0_table(1 << 32)}, SIZE0),
    "8 block forbids": Case(Pas.NS, PA, {}, {BLOCK_AT: 0xB1}, GpcFault(GpcFaultKind.PROTECTION, 0, Gpi.REALM)),
    "9 level 1 does not answer": Case(Pas.NS, PA, {}, {BLOCK_AT: level0_table(L1)}, ABORT1),
    "10 invalid level 1 entry": Case(Pas.NS, PA, {}, {BLOCK_AT: level0_table(L1), ENTRY_AT: 2}, WALK1),
    "11 granule forbids": Case(
        Pas.REALM,
        PA,
        {},
        {BLOCK_AT: level0_table(L1), ENTRY_AT: level1_granules(Gpi.NS)},
        GpcFault(GpcFaultKind.PROTECTION, 1, Gpi.NS),
    ),
    "granule allows": Case(Pas.NS, PA, {}, {BLOCK_AT: level0_table(L1), ENTRY_AT: level1_granules(Gpi.NS)}, None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_faults_in_order_of_priority(case: Case) -> None:
    assert check(config(case.base, **case.fields), Words(case.words), case.pas, case.pa) == case.fault


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (SIZE0, 0x00),
        (WALK0, 0x04),
        (WALK1, 0x05),
        (PROTECTION0, 0x0C),
        (PROTECTION1, 0x0D),
        (ABORT0, 0x14),
        (ABORT1, 0x15),
    ],
)
def test_status_codes_of_a_gpc_exception(fault: GpcFault, code: int) -> None:
    assert fault.gpcsc == code


@settings(max_examples=80, deadline=None)
@given(
    pps=st.sampled_from([c for c, bits in PPS_BITS.items() if bits <= 48]),
    pgs=st.sampled_from(sorted(PGS_SHIFT)),
    l0gptsz=st.sampled_from(sorted(L0GPTSZ_SHIFT)),
    data=st.data(),
)
def test_every_geometry_finds_the_nibble_of_its_granule(pps: int, pgs: int, l0gptsz: int, data: st.DataObject) -> None:
    t, s, p = PPS_BITS[pps], L0GPTSZ_SHIFT[l0gptsz], PGS_SHIFT[pgs]
    pa = data.draw(st.integers(0, (1 << t) - 1))
    nibbles = data.draw(st.lists(st.sampled_from(sorted(VALID)), min_size=16, max_size=16))
    nibbles[0] = data.draw(st.sampled_from(sorted(VALID)))
    decoded = good(0, PPS=pps, PGS=pgs, L0GPTSZ=l0gptsz)
    table = 1 << 31
    table -= table % decoded.level1_size
    granule, region_granules = pa >> p, 1 << (s - p)
    index = granule % region_granules // 16
    words = {
        (granule // region_granules) * 8: level0_table(table),
        table + index * 8: sum(g << 4 * i for i, g in enumerate(nibbles)),
    }
    assert walk(decoded, Words(words), pa) == GpiResult(nibbles[granule % 16], 1, 1 << p)


@settings(max_examples=200, deadline=None)
@given(entry0=st.integers(0, (1 << 64) - 1), entry1=st.integers(0, (1 << 64) - 1), pas=st.sampled_from(Pas))
def test_any_table_content_gives_an_answer(entry0: int, entry1: int, pas: Pas) -> None:
    outcome = check(good(), lambda pa: entry0 if pa == BLOCK_AT else entry1, pas, PA)
    assert outcome is None or isinstance(outcome, GpcFault)
