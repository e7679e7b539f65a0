"""Tables as structures: fold and unfold, tops, liveness, TLB maintenance, Unprotected mappings (spec: rtt 4-9)."""

import pytest

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import Ripas, Rmi
from realmkit.arch.vmsa import entry_size
from realmkit.rmm.rtt import translate, walk
from realmkit.rmm.rtt_entry import Hipas
from realmkit.rmm.state import GranuleState, RipasRequest
from tests.rmm.fake import HIGH_BASE, RAM_BASE, Bench

MIB2, GIB = 1 << 21, 1 << 30
WIDTH = 39
UNPROTECTED = 1 << WIDTH - 1
DESC = RAM_BASE | 0xD8


def block(bench: Bench, rd: int, ipa: int, align: int = MIB2) -> int:
    """512 populated pages of contiguous memory at a 2 MB aligned ``ipa``; their address."""
    bench.tables(rd, ipa)
    base = bench.ns(align=align)
    for page in range(512):
        bench.ok(Rmi.GRANULE_DELEGATE, base + page * 4096)
        bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, base + page * 4096, ipa + page * 4096)
    bench._next = base + MIB2
    return base


def set_ripas(bench: Bench, rd: int, rec: int, base: int, top: int, value: Ripas, destroyed: bool = True) -> int:
    bench.rmm.recs[rec].ripas = RipasRequest(base, top, value, destroyed)
    return bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, base, top)[0]


@pytest.mark.parametrize("value", Ripas)
def test_fold_and_create_of_an_assigned_table_restore_the_view(value: Ripas) -> None:
    bench = Bench()
    rd = bench.realm()
    rec = bench.rec(rd)
    bench.tables(rd, MIB2)
    if value is Ripas.DESTROYED:
        table = bench.ok(Rmi.RTT_FOLD, rd, MIB2, 3)[0]
        bench.ok(Rmi.RTT_CREATE, rd, table, MIB2, 3)
        bench.ok(Rmi.RTT_DESTROY, rd, MIB2, 3)
        bench.ok(Rmi.RTT_CREATE, rd, table, MIB2, 3)
    data = block(bench, rd, MIB2)
    if value is Ripas.RAM:
        assert set_ripas(bench, rd, rec, MIB2, 2 * MIB2, Ripas.RAM) == 2 * MIB2
    pages = [bench.ok(Rmi.RTT_READ_ENTRY, rd, MIB2 + page * 4096, 3) for page in range(512)]
    assert pages == [(3, 1, data + page * 4096, value) for page in range(512)]
    table = bench.ok(Rmi.RTT_FOLD, rd, MIB2, 3)[0]
    assert bench.rmm.granules.state(table) is GranuleState.DELEGATED
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, MIB2, 3) == (2, *pages[0][1:])
    assert bench.rmm.granules.state(data) is GranuleState.DATA
    bench.ok(Rmi.RTT_CREATE, rd, table, MIB2, 3)
    assert [bench.ok(Rmi.RTT_READ_ENTRY, rd, MIB2 + page * 4096, 3) for page in range(512)] == pages
    for page in range(512):
        bench.ok(Rmi.DATA_DESTROY, rd, MIB2 + page * 4096)
    bench.ok(Rmi.RTT_DESTROY, rd, MIB2, 3)


def test_tables_that_differ_anywhere_do_not_fold() -> None:
    """Gaps, other order, other RIPAS, and memory that is not aligned to the block (attacks 22)."""
    bench = Bench()
    rd = bench.realm()
    rec = bench.rec(rd)
    block(bench, rd, 0, align=MIB2)
    assert set_ripas(bench, rd, rec, 0x1F_F000, MIB2, Ripas.RAM) == MIB2
    assert bench.call(Rmi.RTT_FOLD, rd, 0, 3).code == (4, 3)
    assert set_ripas(bench, rd, rec, 0, MIB2, Ripas.RAM) == MIB2
    data = bench.ok(Rmi.DATA_DESTROY, rd, 0x1000)[0]
    assert bench.call(Rmi.RTT_FOLD, rd, 0, 3).code == (4, 3)
    other = bench.delegated()
    bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, other, 0x1000)
    assert set_ripas(bench, rd, rec, 0x1000, 0x2000, Ripas.RAM) == 0x2000
    assert bench.call(Rmi.RTT_FOLD, rd, 0, 3).code == (4, 3)
    bench.ok(Rmi.DATA_DESTROY, rd, 0x1000)
    bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, data, 0x1000)
    assert set_ripas(bench, rd, rec, 0x1000, 0x2000, Ripas.RAM) == 0x2000
    bench.ok(Rmi.RTT_FOLD, rd, 0, 3)


def test_contiguous_memory_that_is_not_aligned_does_not_fold() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.ns(align=MIB2)
    block(bench, rd, 0, align=4096)
    assert bench.call(Rmi.RTT_FOLD, rd, 0, 3).label == "rtt_homo"


def test_a_gigabyte_block_of_unprotected_memory_folds_and_unfolds() -> None:
    bench = Bench()
    rd = bench.realm()
    table = bench.table(rd, UNPROTECTED, 2)
    for slot in range(512):
        bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + slot * MIB2, 2, DESC + slot * MIB2)
    assert bench.ok(Rmi.RTT_FOLD, rd, UNPROTECTED, 2)[0] == table
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, UNPROTECTED, 1) == (1, 1, DESC, 0)
    bench.ok(Rmi.RTT_CREATE, rd, table, UNPROTECTED, 2)
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, UNPROTECTED + 511 * MIB2, 2) == (2, 1, DESC + 511 * MIB2, 0)


def test_unprotected_entries_of_different_attributes_do_not_fold() -> None:
    """attacks 22."""
    bench = Bench()
    rd = bench.realm()
    bench.table(rd, UNPROTECTED, 2)
    for slot in range(512):
        attributes = 0x98 if slot == 300 else 0xD8
        bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + slot * MIB2, 2, RAM_BASE + slot * MIB2 | attributes)
    assert bench.call(Rmi.RTT_FOLD, rd, UNPROTECTED, 2).code == (4, 2)


def test_uniform_entries_never_fold_into_a_512_gigabyte_block() -> None:
    bench = Bench()
    rd = bench.realm(44, 0)
    half = 1 << 43
    bench.table(rd, half, 1)
    for slot in range(512):
        bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, half + slot * GIB, 1, slot * GIB | 0xD8)
    assert bench.call(Rmi.RTT_FOLD, rd, half, 1).code == (4, 1)


@pytest.mark.parametrize("value", [Ripas.EMPTY, Ripas.RAM, Ripas.DESTROYED])
def test_unassigned_tables_fold_with_their_ripas(value: Ripas) -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    if value is Ripas.RAM:
        bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0, MIB2)
    elif value is Ripas.DESTROYED:
        bench.ok(Rmi.RTT_DESTROY, rd, 0, 3)
        bench.table(rd, 0, 3)
    bench.ok(Rmi.RTT_FOLD, rd, 0, 3)
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, 0, 2) == (2, 0, 0, value)
    bench.table(rd, 0, 3)
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, 0x1F_F000, 3) == (3, 0, 0, value)


def test_destroying_an_unprotected_table_takes_its_mappings_and_their_tlb_entries() -> None:
    """attacks 17: the whole range is invalidated; ASSIGNED_NS entries do not make a table live."""
    bench = Bench()
    rd = bench.realm(vmid=3)
    bench.tables(rd, UNPROTECTED)
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + 0x1000, 3, DESC)
    bench.port.tlbi.clear()
    outputs = bench.ok(Rmi.RTT_DESTROY, rd, UNPROTECTED, 3)
    assert outputs[1] == UNPROTECTED + GIB
    assert bench.port.tlbi == [(3, UNPROTECTED, MIB2)]
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, UNPROTECTED, 3) == (2, 0, 0, 0)
    assert bench.bus.read64(Pas.REALM, walk(bench.port, bench.rmm.realms[rd], UNPROTECTED).table_pa) == 1 << 55


def test_top_after_an_unmap_finds_the_next_mapping_not_counted_as_live_table_content() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, UNPROTECTED)
    for ipa in (0x1000, 0x9000):
        bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + ipa, 3, DESC)
    assert bench.ok(Rmi.RTT_UNMAP_UNPROTECTED, rd, UNPROTECTED + 0x1000, 3)[0] == UNPROTECTED + 0x9000
    assert bench.ok(Rmi.RTT_UNMAP_UNPROTECTED, rd, UNPROTECTED + 0x9000, 3)[0] == UNPROTECTED + MIB2


def test_top_in_a_starting_table_stops_at_an_unprotected_mapping() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + 3 * GIB, 1, DESC)
    assert bench.call(Rmi.DATA_DESTROY, rd, 0x1000).outputs[:2] == (0, UNPROTECTED + 3 * GIB)


def test_top_of_a_concatenated_start_ends_with_the_table_reached() -> None:
    bench = Bench()
    rd = bench.realm(40, 1, 2)
    assert bench.call(Rmi.DATA_DESTROY, rd, 0x1000).outputs[:2] == (0, 512 * GIB)
    assert bench.call(Rmi.RTT_UNMAP_UNPROTECTED, rd, (1 << 39) + GIB, 1).outputs[0] == 1 << 40


@pytest.mark.parametrize(("width", "level", "number"), [(34, 2, 16), (42, 1, 8), (43, 1, 16), (48, 0, 1)])
def test_walks_reach_every_concatenated_table(width: int, level: int, number: int) -> None:
    bench = Bench()
    rd = bench.realm(width, level, number)
    subject = bench.rmm.realms[rd]
    last = (1 << width - 1) - 4096
    for ipa in (0, last):
        bench.tables(rd, ipa)
        data = bench.page(rd, ipa)
        assert translate(bench.port, subject, ipa + 0xABC) == (Hipas.ASSIGNED, Ripas.EMPTY, data + 0xABC, 3)
    top = (1 << width) - 4096
    bench.tables(rd, top)
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, top, 3, DESC)
    assert translate(bench.port, subject, top + 8) == (Hipas.ASSIGNED_NS, Ripas.EMPTY, RAM_BASE + 8, 3)
    assert walk(bench.port, subject, top, level).table_pa == subject.rtt_base + (number - 1) * 4096


def test_translation_of_every_kind_of_leaf() -> None:
    bench = Bench()
    rd = bench.realm()
    subject = bench.rmm.realms[rd]
    data = block(bench, rd, MIB2)
    bench.ok(Rmi.RTT_FOLD, rd, MIB2, 3)
    assert translate(bench.port, subject, MIB2 + 0x12345) == (Hipas.ASSIGNED, Ripas.EMPTY, data + 0x12345, 2)
    assert translate(bench.port, subject, 5) == (Hipas.UNASSIGNED, Ripas.EMPTY, 0, 2)
    assert translate(bench.port, subject, UNPROTECTED) == (Hipas.UNASSIGNED_NS, Ripas.EMPTY, 0, 1)
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED, 1, GIB * 5 | 0xD8)
    assert translate(bench.port, subject, UNPROTECTED + 0x1234_5678).pa == GIB * 5 + 0x1234_5678


def test_map_at_a_block_level_above_the_start_is_refused() -> None:
    bench = Bench()
    rd = bench.realm(32, 2, 4)
    assert bench.call(Rmi.RTT_MAP_UNPROTECTED, rd, 1 << 31, 1, GIB | 0xD8).label == "level_bound"
    assert bench.call(Rmi.RTT_UNMAP_UNPROTECTED, rd, 1 << 31, 1).label == "level_bound"


@pytest.mark.parametrize("target", [0, 0x1C09_0000, HIGH_BASE - 4096])
def test_the_target_of_an_unprotected_mapping_is_not_checked(target: int) -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, UNPROTECTED)
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED, 3, target | 0xD8)
    data = bench.ns()
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED + 4096, 3, data | 0xD8)
    bench.ok(Rmi.GRANULE_DELEGATE, data)


def test_valid_entries_are_invalidated_when_they_change() -> None:
    """attacks 16-18; what was invalid needs no maintenance."""
    bench = Bench()
    rd = bench.realm(vmid=7)
    rec = bench.rec(rd)
    tlbi = bench.port.tlbi

    def after(fid: Rmi, *arguments: int) -> list[tuple[int, ...]]:
        tlbi.clear()
        bench.ok(fid, *arguments)
        return list(tlbi)

    l2, l3, data = bench.delegated(), bench.delegated(), bench.delegated()
    assert after(Rmi.RTT_CREATE, rd, l2, 0, 2) == []
    assert after(Rmi.RTT_CREATE, rd, l3, 0, 3) == []
    assert after(Rmi.DATA_CREATE_UNKNOWN, rd, data, 0) == []
    assert after(Rmi.DATA_DESTROY, rd, 0) == []  # ASSIGNED, EMPTY was never valid
    bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, data, 0)
    tlbi.clear()
    set_ripas(bench, rd, rec, 0, 0x2000, Ripas.RAM)
    assert tlbi == []
    set_ripas(bench, rd, rec, 0, 0x2000, Ripas.EMPTY)
    assert tlbi == [(7, 0, 0x2000)]
    set_ripas(bench, rd, rec, 0, 0x1000, Ripas.RAM)
    assert after(Rmi.DATA_DESTROY, rd, 0) == [(7, 0, 4096)]
    assert after(Rmi.RTT_DESTROY, rd, 0, 3) == [(7, 0, MIB2)]
    block(bench, rd, MIB2)
    set_ripas(bench, rd, rec, MIB2, 2 * MIB2, Ripas.RAM)
    assert after(Rmi.RTT_FOLD, rd, MIB2, 3) == [(7, MIB2, MIB2)]
    assert after(Rmi.RTT_CREATE, rd, l3, MIB2, 3) == [(7, MIB2, MIB2)]
    assert after(Rmi.RTT_MAP_UNPROTECTED, rd, UNPROTECTED, 1, GIB | 0xD8) == []
    assert after(Rmi.RTT_UNMAP_UNPROTECTED, rd, UNPROTECTED, 1) == [(7, UNPROTECTED, GIB)]


def test_an_entry_is_invalid_before_its_memory_is_wiped() -> None:
    """Break, invalidate, then give the granule away: in that order."""
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0, 0x1000)
    data = bench.page(rd, 0)
    order: list[str] = []
    zero, invalidate = bench.bus.zero, bench.port.tlbi_ipa

    def spy_zero(pas: Pas, pa: int, size: int) -> None:
        order.append("wipe")
        assert pa == data
        zero(pas, pa, size)

    def spy_invalidate(vmid: int, ipa: int, size: int) -> None:
        order.append("tlbi")
        assert translate(bench.port, bench.rmm.realms[rd], 0).hipas is Hipas.UNASSIGNED
        invalidate(vmid, ipa, size)

    bench.bus.zero = spy_zero  # type: ignore[method-assign]
    bench.port.tlbi_ipa = spy_invalidate  # type: ignore[method-assign]
    bench.ok(Rmi.DATA_DESTROY, rd, 0)
    assert order == ["tlbi", "wipe"]


def test_a_table_that_moved_is_not_found_at_its_old_place() -> None:
    """The RMM remembers the last level 3 table: destroying and creating it elsewhere must not confuse a walk."""
    bench = Bench()
    rd = bench.realm()
    subject = bench.rmm.realms[rd]
    bench.tables(rd, 0)
    assert walk(bench.port, subject, 0).level == 3
    for command in (Rmi.RTT_DESTROY, Rmi.RTT_FOLD):
        old = bench.ok(command, rd, 0, 3)[0]
        assert walk(bench.port, subject, 0).level == 2
        new = bench.table(rd, 0, 3)
        assert walk(bench.port, subject, 0).table_pa == new != old


def test_read_entry_reports_where_the_walk_ends() -> None:
    bench = Bench()
    rd = bench.realm(44, 0)
    bench.tables(rd, 0)
    for level in (0, 1, 2):
        reached, state, desc, ripas = bench.ok(Rmi.RTT_READ_ENTRY, rd, 0, level)
        assert (reached, state, ripas) == (level, 2, 0)
        assert bench.rmm.granules.state(desc) is GranuleState.RTT
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, entry_size(0), 3)[0] == 0
