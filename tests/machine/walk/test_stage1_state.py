"""Stage 1: access flag, dirty state, the MMU switched off, and physical address spaces."""

import pytest

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_EXTERNAL_WALK, FSC_GPF, FSC_GPF_WALK
from realmkit.arch.esr import FSC_PERMISSION as PERMISSION
from realmkit.arch.pas import Gpi, Pas, SecurityState
from realmkit.machine.walk import Controls, Kind
from tests.machine.walk.kit import AF, EXECUTE, NOWHERE, RAM, READ, WRITE, Board, Leaf, Tables, build, el1, el2

VA = 0x12_3456_7000
PA = RAM + 0x300_0000
AP_EL0, AP_RO, DBM, AP_TABLE_RO = 1 << 6, 1 << 7, 1 << 51, 1 << 62
HA, HD = 1 << 39, 1 << 40


@pytest.fixture
def board() -> Board:
    return Board()


def page(board: Board, attributes: int = AF, table: int = 0) -> Tables:
    return build(board, [Leaf(VA, 3, PA, attributes)], table_attributes=table)


# ---- access flag and dirty state ----


@pytest.mark.parametrize("level", [1, 2, 3])
def test_access_flag(board: Board, level: int) -> None:
    tables = build(board, [Leaf(0, level, RAM & -(1 << 30) if level == 1 else PA, 0)])
    assert board.fault(el1(tables), 0).fsc == FSC_ACCESS_FLAG + level
    assert board.fault(el2(tables), 0, WRITE).fsc == FSC_ACCESS_FLAG + level
    assert tables.descriptor(level, 0) & AF == 0


def test_hardware_sets_the_access_flag(board: Board) -> None:
    for c_of, enable in ((el1, HA), (el2, 1 << 21)):
        tables = build(board, [Leaf(0, 3, PA, 0)])
        before = tables.descriptor(3, 0)
        assert board.mapping(c_of(tables, tcr=enable), 0).pa == PA
        assert tables.descriptor(3, 0) == before | AF


def test_an_access_that_faults_does_not_set_it(board: Board) -> None:
    tables = build(board, [Leaf(0, 3, PA, AP_RO)])
    assert board.fault(el1(tables, tcr=HA), 0, WRITE).fsc == PERMISSION + 3
    assert tables.descriptor(3, 0) & AF == 0


def test_dirty_state(board: Board) -> None:
    """DBM makes a read-only page writable: the first write clears AP[2], reads leave it."""
    for c_of, enable in ((el1, HA | HD), (el2, 1 << 21 | 1 << 22)):
        tables = build(board, [Leaf(0, 3, PA, AF | AP_RO | DBM)])
        c = c_of(tables, tcr=enable)
        clean = board.mapping(c, 0, READ)
        assert not clean.write, "a write must be seen by the walk"
        assert tables.descriptor(3, 0) & AP_RO
        assert board.mapping(c, 0, WRITE).write
        assert tables.descriptor(3, 0) & AP_RO == 0
        assert board.mapping(c, 0, READ).write


@pytest.mark.parametrize("enable", [0, HA, HD])
def test_dirty_state_needs_both_controls(board: Board, enable: int) -> None:
    tables = build(board, [Leaf(0, 3, PA, AF | AP_RO | DBM)])
    assert board.fault(el1(tables, tcr=enable), 0, WRITE).fsc == PERMISSION + 3
    assert tables.descriptor(3, 0) & AP_RO


def test_a_clean_page_counts_as_writable_for_execution(board: Board) -> None:
    tables = build(board, [Leaf(0, 3, PA, AF | AP_RO | DBM | AP_EL0)])
    assert board.fault(el1(tables, tcr=HA | HD), 0, EXECUTE).fsc == PERMISSION + 3
    assert board.mapping(el1(tables), 0, EXECUTE).pa == PA


def test_dirty_state_does_not_overrule_tables_or_privilege(board: Board) -> None:
    tables = build(board, [Leaf(0, 3, PA, AF | AP_RO | DBM)], table_attributes=AP_TABLE_RO)
    assert board.fault(el1(tables, tcr=HA | HD), 0, WRITE).fsc == PERMISSION + 3
    tables = build(board, [Leaf(0, 3, PA, AF | AP_RO | DBM)])
    assert board.fault(el1(tables, tcr=HA | HD), 0, WRITE, privileged=False).fsc == PERMISSION + 3
    assert tables.descriptor(3, 0) & AP_RO


# ---- MMU off ----


@pytest.mark.parametrize("off", [Controls(SecurityState.NS), Controls(SecurityState.NS, el2=True)])
def test_stage_1_off(board: Board, off: Controls) -> None:
    data, fetch = board.mapping(off, PA + 8, WRITE), board.mapping(off, PA, EXECUTE)
    assert (data.pa, data.device, data.read, data.write) == (PA, True, True, True)
    assert (fetch.pa, fetch.device, fetch.execute) == (PA, False, True)
    assert board.fault(off, 1 << 48).fsc == FSC_ADDRESS_SIZE
    assert board.fault(off, 0xAB << 56 | PA).fsc == FSC_ADDRESS_SIZE


def test_tags_are_ignored_without_translation(board: Board) -> None:
    assert board.mapping(Controls(SecurityState.NS, tcr=1 << 37), 0xAB << 56 | PA).pa == PA
    assert board.mapping(Controls(SecurityState.NS, el2=True, tcr=1 << 20), 0x7F << 56 | PA).pa == PA


@pytest.mark.parametrize("bit", [12, 27])
def test_hcr_switches_stage_1_off(board: Board, bit: int) -> None:
    """DC and TGE; with DC memory is Normal (and stage 2 is on)."""
    c = el1(page(board))
    c.hcr = 1 << bit
    assert c.stage1 is False
    assert c.stage2 is (bit == 12)
    if bit == 27:
        assert board.mapping(c, PA).pa == PA


# ---- physical address spaces ----


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_table_of_another_world_is_a_granule_protection_fault_of_its_level(board: Board, level: int) -> None:
    tables = page(board)
    size = tables.span(level)
    board.give(tables.places[level, VA // size * size] & -4096, Gpi.REALM)
    fault = board.fault(el1(tables), VA)
    assert (fault.fsc, fault.stage, fault.gpf) == (FSC_GPF_WALK + level, 1, True)


def test_a_page_of_another_world_is_a_granule_protection_fault(board: Board) -> None:
    tables = page(board, AF | AP_RO)
    board.give(PA, Gpi.REALM)
    for c in (el1(tables), el2(tables), Controls(SecurityState.NS)):
        fault = board.fault(c, VA if c.stage1 else PA)
        assert (fault.fsc, fault.stage, fault.gpf) == (FSC_GPF, 1, True)
    assert board.fault(el1(tables), VA, WRITE).fsc == PERMISSION + 3, "permissions come first"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_table_where_no_memory_is(board: Board, level: int) -> None:
    tables = page(board)
    size = tables.span(level - 1)
    tables.patch(level - 1, VA // size * size, NOWHERE | 3)
    assert board.fault(el1(tables), VA).fsc == FSC_EXTERNAL_WALK + level


@pytest.mark.parametrize("state", [SecurityState.REALM, SecurityState.SECURE])
def test_the_ns_bit_of_el2(state: SecurityState) -> None:
    """Realm EL2 and Secure EL2 reach Non-secure memory by it; the Realm world does not execute there."""
    board = Board(state)
    board.give(PA, Gpi.NS)
    tables = build(board, [Leaf(0, 3, PA, AF | 1 << 5), Leaf(0x1000, 3, PA)])
    c = el2(tables, state=state)
    assert board.mapping(c, 0, WRITE).pas is Pas.NS
    assert board.fault(c, 0x1000).fsc == FSC_GPF
    if state is SecurityState.REALM:
        assert board.fault(c, 0, EXECUTE).fsc == PERMISSION + 3
        assert board.fault(el1(tables, state=state), 0).fsc == FSC_GPF
    else:
        assert board.mapping(c, 0, EXECUTE).pas is Pas.NS


def test_a_non_secure_table_of_the_secure_world() -> None:
    board = Board(SecurityState.SECURE)
    tables = page(board, table=0)
    board.give(PA, Gpi.NS)
    board.give(tables.places[3, VA] & -4096, Gpi.NS)
    size = tables.span(2)
    tables.patch(2, VA // size * size, tables.descriptor(2, VA // size * size) | 1 << 63)
    assert board.mapping(el1(tables, state=SecurityState.SECURE), VA).pas is Pas.NS


def test_memory_that_changes_under_the_update_is_not_walked_for_ever(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in a device whose registers differ at every read."""
    tables = build(board, [Leaf(0, 3, PA, 0)])
    reads = iter(range(1, 10_000))
    place = tables.places[3, 0]
    bus = board.mmu._bus

    class Flickering:
        state = bus.state

        def read64(self, pas: Pas, pa: int) -> int:
            return bus.read64(pas, pa) | (next(reads) << 55 if pa == place else 0)

    monkeypatch.setattr(board.mmu, "_bus", Flickering())
    fault = board.fault(el1(tables, tcr=HA), 0)
    assert (fault.fsc, fault.kind) == (0x31, Kind.WRITE)
