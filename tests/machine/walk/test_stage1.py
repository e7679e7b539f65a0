"""Stage 1: each rule of the Arm ARM by itself, with the exact status code and level."""

import pytest

from realmkit.arch.esr import FSC_ADDRESS_SIZE
from realmkit.arch.esr import FSC_PERMISSION as PERMISSION
from realmkit.arch.esr import FSC_TRANSLATION as TRANSLATION
from realmkit.machine.walk import Controls, Fault
from tests.machine.walk.kit import (
    AF,
    DEVICE,
    EXECUTE,
    RAM,
    READ,
    WRITE,
    Board,
    Leaf,
    Tables,
    build,
    el1,
    el2,
    upper,
)

VA = 0x12_3456_7000
PA = RAM + 0x300_0000
AP_EL0, AP_RO, NG, DBM, CONTIGUOUS = 1 << 6, 1 << 7, 1 << 11, 1 << 51, 1 << 52
PXN, UXN = 1 << 53, 1 << 54
PXN_TABLE, UXN_TABLE, AP_TABLE_EL0, AP_TABLE_RO = 1 << 59, 1 << 60, 1 << 61, 1 << 62
HA, HD = 1 << 39, 1 << 40
ALL = (READ, WRITE, EXECUTE)


@pytest.fixture
def board() -> Board:
    return Board()


def page(board: Board, attributes: int = AF, table: int = 0) -> Tables:
    return build(board, [Leaf(VA, 3, PA, attributes)], table_attributes=table)


def rights(board: Board, c: Controls, privileged: bool, pan: bool = False, va: int = VA) -> str:
    """The kinds of access that proceed, as letters; each agrees with the flags of the mapping."""
    letters = ""
    for kind, letter in zip(ALL, "rwx", strict=True):
        found = board.translate(c, va, kind, privileged, pan)
        if isinstance(found, Fault):
            assert (found.fsc, found.stage) == (PERMISSION + 3, 1)
            continue
        assert (found.read, found.write, found.execute)[kind]
        letters += letter
    return letters


# ---- output ----


SIZES = [(4096, 1), (4096, 2), (4096, 3), (16384, 2), (16384, 3), (65536, 2), (65536, 3)]


@pytest.mark.parametrize(("granule", "level"), SIZES)
@pytest.mark.parametrize("half", ["low", "high", "el2"])
def test_blocks_and_pages(board: Board, granule: int, level: int, half: str) -> None:
    va = 0xABCD_0000_0000 & -(1 << 30)
    tables = build(board, [Leaf(va, level, RAM)], granule)
    c = el2(tables) if half == "el2" else el1(tables) if half == "low" else el1(None, tables)
    origin = upper(tables, va) if half == "high" else va
    size = tables.span(level)
    for offset in (0, 0x123, size // 2 + 0x345, size - 1):
        assert board.mapping(c, origin + offset).pa == RAM + (offset & -0x1000)
    for outside in (origin - 1, origin + size):
        assert TRANSLATION <= board.fault(c, outside).fsc <= TRANSLATION + level


@pytest.mark.parametrize(("granule", "level"), [(4096, 0), (16384, 1), (16384, 0), (65536, 1)])
def test_blocks_above_the_largest_are_invalid(board: Board, granule: int, level: int) -> None:
    tables = build(board, [Leaf(0, level, 0)], granule, 48)
    assert board.fault(el1(tables), 0x1000).fsc == TRANSLATION + level


@pytest.mark.parametrize("granule", [4096, 16384, 65536])
def test_a_page_descriptor_needs_its_type(board: Board, granule: int) -> None:
    tables = build(board, [Leaf(0, 3, PA)], granule)
    tables.patch(3, 0, PA | AF | 1)
    assert board.fault(el1(tables), 0).fsc == TRANSLATION + 3


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("invalid", [0, 2, 0xFFFF_FFFF_FFFF_FFFE])
def test_an_invalid_descriptor_is_a_translation_fault_of_its_level(board: Board, level: int, invalid: int) -> None:
    tables = page(board)
    size = tables.span(level)
    tables.patch(level, VA // size * size, invalid)
    for kind in ALL:
        fault = board.fault(el1(tables), VA, kind)
        assert (fault.fsc, fault.stage, fault.s1ptw) == (TRANSLATION + level, 1, False)


def test_the_contiguous_bit_is_a_hint(board: Board) -> None:
    tables = build(board, [Leaf(VA, 3, PA, AF | CONTIGUOUS), Leaf(VA + 0x1000, 3, PA + 0x5000, AF | CONTIGUOUS)])
    assert board.mapping(el1(tables), VA).pa == PA
    assert board.mapping(el1(tables), VA + 0x1000).pa == PA + 0x5000


def test_memory_types_come_from_mair(board: Board) -> None:
    tables = build(board, [Leaf(0, 3, PA), Leaf(0x1000, 3, PA, AF | DEVICE)])
    assert [board.mapping(el1(tables), va).device for va in (0, 0x1000)] == [False, True]
    assert board.mapping(el1(tables), 0x1000, EXECUTE).execute


# ---- ranges ----


@pytest.mark.parametrize("bits", range(25, 49))
def test_the_ends_of_both_ranges(board: Board, bits: int) -> None:
    top = (1 << bits) - 0x1000
    low, high = build(board, [Leaf(top, 3, PA)], bits=bits), build(board, [Leaf(0, 3, PA + 0x1000)], bits=bits)
    c = el1(low, high)
    assert board.mapping(c, top + 0xFFF).pa == PA
    assert board.mapping(c, upper(high, 0)).pa == PA + 0x1000
    for va in (1 << bits, (1 << 55) - 0x1000, 1 << 55, upper(high, 0) - 1, top | 1 << 63):
        assert board.fault(c, va).fsc == TRANSLATION


@pytest.mark.parametrize("tsz", [0, 15, 40, 63])
def test_sizes_that_the_architecture_does_not_have(board: Board, tsz: int) -> None:
    tables = page(board)
    c = el1(tables)
    c.tcr = c.tcr & ~63 | tsz
    assert board.fault(c, VA).fsc == TRANSLATION


def test_top_byte_ignore(board: Board) -> None:
    low, high = page(board), build(board, [Leaf(0x5000, 3, PA)])
    tagged_low, tagged_high = 0xAB << 56 | VA, upper(high, 0x5000) & (1 << 56) - 1 | 0x12 << 56
    for tcr, faults in ((0, (True, True)), (1 << 37, (False, True)), (1 << 38, (True, False))):
        c = el1(low, high, tcr)
        assert [hasattr(board.translate(c, va), "fsc") for va in (tagged_low, tagged_high)] == list(faults)
    c = el2(low, tcr=1 << 20)
    assert board.mapping(c, tagged_low).pa == PA
    assert board.fault(el2(low), tagged_low).fsc == TRANSLATION


def test_walks_can_be_disabled(board: Board) -> None:
    low, high = page(board), page(board)
    c = el1(low, high, 1 << 7)
    assert board.fault(c, VA).fsc == TRANSLATION
    assert board.mapping(c, upper(high, VA)).pa == PA
    c = el1(low, high, 1 << 23)
    assert board.fault(c, upper(high, VA)).fsc == TRANSLATION


def test_el0_is_kept_out_of_a_half_without_a_walk(board: Board) -> None:
    """FEAT_E0PD: the fault is that of an unmapped address."""
    low, high = page(board, AF | AP_EL0), page(board, AF | AP_EL0)
    for tcr, va in ((1 << 55, VA), (1 << 56, upper(high, VA))):
        c = el1(low, high, tcr)
        assert board.fault(c, va, READ, privileged=False).fsc == TRANSLATION
        assert board.mapping(c, va).pa == PA
        other = VA if va != VA else upper(high, VA)
        assert board.mapping(c, other, READ, privileged=False).pa == PA


def test_el2_has_the_lower_range_only(board: Board) -> None:
    tables = page(board)
    assert board.mapping(el2(tables), VA).pa == PA
    assert board.fault(el2(tables), VA | 0xFFFF << 48).fsc == TRANSLATION


# ---- address sizes ----


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_output_addresses_are_limited_by_ips_at_each_level(board: Board, level: int) -> None:
    tables = page(board)
    c = el1(tables)
    c.tcr &= ~(7 << 32)
    size = tables.span(level)
    tables.patch(level, VA // size * size, 1 << 32 | AF | 3)
    assert board.fault(c, VA).fsc == FSC_ADDRESS_SIZE + level


def test_the_base_register_is_limited_too(board: Board) -> None:
    c = el1(page(board))
    c.tcr &= ~(7 << 32)
    c.ttbr0 = 1 << 32
    assert board.fault(c, VA).fsc == FSC_ADDRESS_SIZE


def test_the_pe_limits_what_ips_asks_for(board: Board) -> None:
    tables = page(board)
    tables.patch(3, VA, 1 << 40 | AF | 3)
    c = el1(tables)
    c.pa_bits = 40
    assert board.fault(c, VA).fsc == FSC_ADDRESS_SIZE + 3


def test_an_address_that_is_too_large_comes_before_the_access_flag(board: Board) -> None:
    tables = page(board)
    tables.patch(3, VA, 1 << 40 | 3)
    c = el1(tables)
    c.pa_bits = 40
    assert board.fault(c, VA).fsc == FSC_ADDRESS_SIZE + 3


def test_bits_of_the_base_register_that_do_not_belong_to_the_address(board: Board) -> None:
    tables = page(board)
    c = el1(tables)
    c.ttbr0 |= 0xABCD << 48 | 1
    assert board.mapping(c, VA).pa == PA


# ---- permissions ----

EL1_EL0_BY_AP = {0: ("rw", ""), 1: ("rw", "rw"), 2: ("r", ""), 3: ("r", "r")}


@pytest.mark.parametrize("ap", range(4))
@pytest.mark.parametrize("never", range(4))
def test_access_permissions(board: Board, ap: int, never: int) -> None:
    """Arm ARM D8.4: data permissions by AP, execution by UXN and PXN; what EL0 can write EL1 does not execute."""
    c = el1(page(board, AF | ap << 6 | never << 53))
    privileged, user = EL1_EL0_BY_AP[ap]
    assert rights(board, c, True) == privileged + ("" if never & 1 or ap == 1 else "x")
    assert rights(board, c, False) == user + ("" if never & 2 else "x")


@pytest.mark.parametrize("ap", range(4))
@pytest.mark.parametrize("never", range(4))
def test_what_is_writable_is_not_executable_with_wxn(board: Board, ap: int, never: int) -> None:
    c = el1(page(board, AF | ap << 6 | never << 53), sctlr=1 | 1 << 19)
    privileged, user = EL1_EL0_BY_AP[ap]
    assert rights(board, c, True) == privileged + ("" if never & 1 or "w" in privileged else "x")
    assert rights(board, c, False) == user + ("" if never & 2 or "w" in user else "x")


@pytest.mark.parametrize("ap", range(4))
def test_privileged_access_never(board: Board, ap: int) -> None:
    c = el1(page(board, AF | ap << 6))
    privileged, user = EL1_EL0_BY_AP[ap]
    assert rights(board, c, True, pan=True) == ("" if user else privileged) + ("" if ap == 1 else "x")
    assert rights(board, c, False, pan=True) == user + "x"


@pytest.mark.parametrize("ap", range(4))
@pytest.mark.parametrize("table", range(4))
@pytest.mark.parametrize("disabled", [False, True])
def test_permissions_of_tables(board: Board, ap: int, table: int, disabled: bool) -> None:
    """APTable removes, for every table on the way; TCR.HPD switches that off."""
    c = el1(page(board, AF | ap << 6, table << 61), tcr=1 << 41 if disabled else 0)
    effective = ap if disabled else (ap & 1 if not table & 1 else 0) | (ap & 2 or table & 2)
    privileged, user = EL1_EL0_BY_AP[effective]
    assert rights(board, c, True) == privileged + ("" if effective == 1 else "x")
    assert rights(board, c, False) == user + "x"


@pytest.mark.parametrize(("table", "privileged", "user"), [(PXN_TABLE, "rw", "x"), (UXN_TABLE, "rwx", "")])
def test_execution_is_forbidden_by_tables(board: Board, table: int, privileged: str, user: str) -> None:
    tables = page(board, table=table)
    assert (rights(board, el1(tables), True), rights(board, el1(tables), False)) == (privileged, user)
    assert rights(board, el1(tables, tcr=1 << 41), True) == "rwx"
    high = page(board, table=table)
    assert rights(board, el1(None, high), True, va=upper(high, VA)) == privileged
    assert rights(board, el1(None, high, 1 << 42), True, va=upper(high, VA)) == "rwx"


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("never", [False, True])
@pytest.mark.parametrize("wxn", [False, True])
def test_permissions_of_el2(board: Board, read_only: bool, never: bool, wxn: bool) -> None:
    """One privilege: AP[1], PXN and PAN mean nothing."""
    for ignored in (0, AP_EL0, PXN):
        attributes = AF | ignored | AP_RO * read_only | UXN * never
        c = el2(page(board, attributes), sctlr=1 | wxn << 19)
        expected = ("r" if read_only else "rw") + ("" if never or (wxn and not read_only) else "x")
        assert rights(board, c, True) == rights(board, c, True, pan=True) == expected


def test_tables_of_el2(board: Board) -> None:
    assert rights(board, el2(page(board, table=AP_TABLE_RO)), True) == "rx"
    assert rights(board, el2(page(board, table=UXN_TABLE)), True) == "rw"
    assert rights(board, el2(page(board, table=AP_TABLE_EL0 | PXN_TABLE)), True) == "rwx"
    assert rights(board, el2(page(board, table=AP_TABLE_RO | UXN_TABLE), tcr=1 << 24), True) == "rwx"
