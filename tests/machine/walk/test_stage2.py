"""Stage 2, and stage 1 on top of it: each rule by itself, with the exact status code, level and address."""

import pytest

from realmkit.arch.esr import FSC_ACCESS_FLAG, FSC_ADDRESS_SIZE, FSC_EXTERNAL_WALK, FSC_GPF, FSC_GPF_WALK
from realmkit.arch.esr import FSC_PERMISSION as PERMISSION
from realmkit.arch.esr import FSC_TRANSLATION as TRANSLATION
from realmkit.arch.pas import Gpi, Pas, SecurityState
from realmkit.arch.vmsa import starting_tables
from realmkit.machine.walk import Controls, Fault, Mapping
from tests.machine.walk.kit import (
    AF,
    DEVICE,
    EXECUTE,
    NOWHERE,
    RAM,
    READ,
    WRITE,
    Board,
    Leaf,
    Tables,
    build,
    el1,
)

IPA = 0x1_2345_6000
PA = RAM + 0x300_0000
TABLES = RAM + 0x380_0000
S2_R, S2_W = 1 << 6, 1 << 7
RW = S2_R | S2_W
NORMAL = 0xF << 2
S2 = AF | RW | NORMAL
NS = 1 << 55
SL0 = {2: 0, 1: 1, 0: 2}
VM, PTW, DC, FWB = 1 << 0, 1 << 2, 1 << 12, 1 << 46


@pytest.fixture
def board() -> Board:
    return Board()


def guest(second: Tables, first: Tables | None = None, hcr: int = 0, vtcr: int = 0, vmid: int = 5) -> Controls:
    """EL1&0 under stage 2; with stage 1 if there are tables for it."""
    c = el1(first, state=second.board.state) if first else Controls(second.board.state)
    c.hcr = VM | hcr
    c.vtcr = vtcr | 5 << 16 | SL0[second.start] << 6 | 64 - second.bits
    c.vttbr = vmid << 48 | second.root
    return c


def page(board: Board, attributes: int = S2, bits: int = 40, start: int = 1) -> Tables:
    return build(board, [Leaf(IPA, 3, PA, attributes)], bits=bits, start=start)


# ---- configurations ----

PAIRS = [(bits, start, starting_tables(bits, start)) for bits in range(32, 49) for start in (0, 1, 2)]


@pytest.mark.parametrize(("bits", "start", "count"), [pair for pair in PAIRS if pair[2]])
def test_every_starting_level_and_number_of_tables(board: Board, bits: int, start: int, count: int) -> None:
    """An address in each of the concatenated tables, and the first one outside."""
    last = (1 << bits) - 0x1000
    ipas = {0, last, *((1 << bits) // count * n + 0x1000 for n in range(count))}
    tables = build(board, [Leaf(ipa, 3, PA + 0x1000 * n, S2) for n, ipa in enumerate(ipas)], bits=bits, start=start)
    c = guest(tables)
    for n, ipa in enumerate(ipas):
        assert board.mapping(c, ipa).pa == PA + 0x1000 * n
    if bits < 48:
        fault = board.fault(c, 1 << bits)
        assert (fault.fsc, fault.stage, fault.ipa) == (TRANSLATION, 2, 1 << bits)


@pytest.mark.parametrize(
    ("bits", "start"),
    [(bits, start) for bits, start, count in PAIRS if not count and not (start == 0 and bits == 39)],
)
def test_sizes_that_do_not_suit_the_starting_level(board: Board, bits: int, start: int) -> None:
    c = guest(page(board))
    c.vtcr = 5 << 16 | SL0[start] << 6 | 64 - bits
    fault = board.fault(c, 0x1000)
    assert (fault.fsc, fault.stage) == (TRANSLATION, 2)


@pytest.mark.parametrize("vtcr", [5 << 16 | 3 << 6 | 24, 5 << 16 | 1 << 6 | 40, 5 << 16 | 2 << 6 | 15])
def test_reserved_values(board: Board, vtcr: int) -> None:
    c = guest(page(board))
    c.vtcr = vtcr
    assert board.fault(c, 0x1000).fsc == TRANSLATION


def test_the_pe_limits_the_size_of_the_input(board: Board) -> None:
    c = guest(page(board, bits=40))
    c.pa_bits = 36
    assert board.fault(c, IPA).fsc == TRANSLATION
    c = guest(page(board, bits=42, start=0))
    c.pa_bits = 42
    assert board.fault(c, IPA).fsc == TRANSLATION, "level 0 needs 44 bits"


def test_bits_of_the_base_register_that_do_not_belong_to_the_address(board: Board) -> None:
    c = guest(page(board), vmid=0xFF)
    c.vttbr |= 1
    assert board.mapping(c, IPA).pa == PA


@pytest.mark.parametrize("level", [1, 2, 3])
def test_ps_limits_tables_and_output(board: Board, level: int) -> None:
    tables = page(board)
    size = tables.span(level)
    tables.patch(level, IPA // size * size, 1 << 36 | S2 | 3)
    c = guest(tables)
    c.vtcr = c.vtcr & ~(7 << 16) | 1 << 16
    fault = board.fault(c, IPA)
    assert (fault.fsc, fault.stage, fault.ipa) == (FSC_ADDRESS_SIZE + level, 2, IPA)
    c.vttbr = 1 << 40
    assert board.fault(c, IPA).fsc == FSC_ADDRESS_SIZE


# ---- descriptors ----


@pytest.mark.parametrize("level", [1, 2, 3])
def test_blocks_and_pages(board: Board, level: int) -> None:
    size = 1 << 12 + 9 * (3 - level)
    ipa = IPA // size * size
    tables = build(board, [Leaf(ipa, level, RAM, S2)], bits=40, start=1)
    assert board.mapping(guest(tables), ipa + size - 1).pa == RAM + size - 0x1000


def test_a_block_of_level_0_is_invalid(board: Board) -> None:
    tables = build(board, [Leaf(0, 0, 0, S2)], bits=48, start=0)
    assert board.fault(guest(tables), 0).fsc == TRANSLATION


def test_a_page_descriptor_needs_its_type(board: Board) -> None:
    tables = page(board)
    tables.patch(3, IPA, PA | S2 | 1)
    assert board.fault(guest(tables), IPA).fsc == TRANSLATION + 3


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("kind", [READ, WRITE, EXECUTE])
def test_an_invalid_descriptor(board: Board, level: int, kind: int) -> None:
    tables = page(board)
    size = tables.span(level)
    tables.patch(level, IPA // size * size, 0xFFF0)
    fault = board.fault(guest(tables), IPA + 0x123, kind)  # type: ignore[arg-type]
    assert (fault.fsc, fault.stage, fault.ipa, fault.s1ptw) == (TRANSLATION + level, 2, IPA + 0x123, False)


def test_the_contiguous_bit_is_a_hint(board: Board) -> None:
    tables = build(board, [Leaf(IPA, 3, PA, S2 | 1 << 52)], bits=40, start=1)
    assert board.mapping(guest(tables), IPA).pa == PA


@pytest.mark.parametrize("access", range(4))
@pytest.mark.parametrize("never", range(4))
@pytest.mark.parametrize("privileged", [True, False])
def test_permissions(board: Board, access: int, never: int, privileged: bool) -> None:
    """S2AP and, with FEAT_XNX, XN[1:0]: 00 all, 01 EL0 only, 10 nobody, 11 EL1 only."""
    c = guest(page(board, AF | NORMAL | access << 6 | never << 53))
    execute = {0: True, 1: not privileged, 2: False, 3: privileged}[never]
    for kind, permitted in ((READ, access & 1), (WRITE, access & 2), (EXECUTE, execute)):
        found = board.translate(c, IPA, kind, privileged)
        if permitted:
            assert isinstance(found, Mapping)
            assert (found.read, found.write, found.execute) == (bool(access & 1), bool(access & 2), execute)
        else:
            assert isinstance(found, Fault)
            assert (found.fsc, found.stage, found.ipa, found.kind) == (PERMISSION + 3, 2, IPA, kind)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_permission_faults_name_the_level_of_the_leaf(board: Board, level: int) -> None:
    size = 1 << 12 + 9 * (3 - level)
    tables = build(board, [Leaf(IPA // size * size, level, RAM, AF | S2_R | NORMAL)], bits=40, start=1)
    assert board.fault(guest(tables), IPA, WRITE).fsc == PERMISSION + level


def test_access_flag(board: Board) -> None:
    tables = page(board, RW | NORMAL)
    fault = board.fault(guest(tables), IPA)
    assert (fault.fsc, fault.stage, fault.ipa) == (FSC_ACCESS_FLAG + 3, 2, IPA)
    assert board.mapping(guest(tables, vtcr=1 << 21), IPA).pa == PA
    assert tables.descriptor(3, IPA) & AF


def test_dirty_state(board: Board) -> None:
    """VTCR_EL2.HA and HD: the first write sets S2AP[1], also when the page is in the cache."""
    tables = page(board, AF | S2_R | NORMAL | 1 << 51)
    c = guest(tables, vtcr=1 << 21 | 1 << 22)
    assert not board.mapping(c, IPA, READ).write
    assert tables.descriptor(3, IPA) & S2_W == 0
    assert board.mapping(c, IPA, WRITE).write
    assert tables.descriptor(3, IPA) & S2_W
    assert board.mapping(c, IPA, READ).write
    other = page(board, AF | S2_R | NORMAL | 1 << 51)
    assert board.fault(guest(other, vtcr=1 << 21), IPA, WRITE).fsc == PERMISSION + 3


# ---- memory types ----


@pytest.mark.parametrize("attribute", range(16))
def test_memory_types(board: Board, attribute: int) -> None:
    """Without FWB the stricter of both stages, with it what Arm ARM D8.5 says for MemAttr[2:0]."""
    first = build(board, [Leaf(0x1000, 3, IPA), Leaf(0x2000, 3, IPA, AF | DEVICE)])
    table_leaves = [Leaf(base, 2, base, S2) for base in (first.root & -0x20_0000,)]
    second = build(board, [Leaf(IPA, 3, PA, AF | RW | attribute << 2), *table_leaves], bits=40, start=1)
    for fwb in (0, FWB):
        c = guest(second, first, fwb)
        board.mmu.invalidate_all()
        normal, device = (board.mapping(c, va).device for va in (0x1000, 0x2000))
        low = attribute & 7
        if fwb:
            assert (normal, device) == (low < 4, low != 6)
        else:
            assert (normal, device) == (attribute < 4, True)


def test_the_default_of_dc_is_normal_memory(board: Board) -> None:
    c = guest(page(board), hcr=DC)
    c.hcr &= ~VM
    c.sctlr = 1
    mapping = board.mapping(c, IPA)
    assert (mapping.pa, mapping.device) == (PA, False)
    assert board.mapping(guest(page(board)), IPA).device, "with stage 1 off, data is Device memory"


# ---- physical address spaces ----


def test_a_realm_reaches_two_spaces_and_executes_in_one() -> None:
    board = Board(SecurityState.REALM)
    board.give(PA, Gpi.NS)
    second = build(board, [Leaf(IPA, 3, PA, S2 | NS), Leaf(IPA + 0x1000, 3, PA + 0x1000, S2)], bits=40, start=1)
    c = guest(second)
    assert board.mapping(c, IPA, WRITE) == Mapping(PA, Pas.NS, True, True, False, True)
    fault = board.fault(c, IPA, EXECUTE)
    assert (fault.fsc, fault.stage) == (PERMISSION + 3, 2)
    assert board.mapping(c, IPA + 0x1000, EXECUTE).pas is Pas.REALM
    swapped = build(board, [Leaf(IPA, 3, PA, S2), Leaf(IPA + 0x1000, 3, PA + 0x1000, S2 | NS)], bits=40, start=1)
    for ipa in (IPA, IPA + 0x1000):
        assert board.fault(guest(swapped, vmid=6), ipa).fsc == FSC_GPF


def test_the_ns_bit_means_nothing_in_the_non_secure_state(board: Board) -> None:
    mapping = board.mapping(guest(page(board, S2 | NS)), IPA, EXECUTE)
    assert (mapping.pas, mapping.execute) == (Pas.NS, True)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_table_of_another_world(board: Board, level: int) -> None:
    tables = page(board)
    size = tables.span(level)
    board.give(tables.places[level, IPA // size * size] & -4096, Gpi.REALM)
    fault = board.fault(guest(tables), IPA)
    assert (fault.fsc, fault.stage, fault.ipa, fault.gpf) == (FSC_GPF_WALK + level, 2, IPA, True)


def test_a_table_where_no_memory_is(board: Board) -> None:
    tables = page(board)
    tables.patch(2, IPA // (1 << 21) * (1 << 21), NOWHERE | 3)
    fault = board.fault(guest(tables), IPA)
    assert (fault.fsc, fault.stage) == (FSC_EXTERNAL_WALK + 3, 2)


def test_permissions_come_before_the_granule_check(board: Board) -> None:
    board.give(PA, Gpi.REALM)
    c = guest(page(board, AF | S2_R | NORMAL))
    assert board.fault(c, IPA, WRITE).fsc == PERMISSION + 3
    fault = board.fault(c, IPA, READ)
    assert (fault.fsc, fault.stage) == (FSC_GPF, 1)


# ---- both stages ----


class Both:
    """Stage 1 tables at IPAs that stage 2 maps page by page; VA 0x5000 to IPA to PA."""

    def __init__(self, first_attributes: int = AF, second_attributes: int = S2) -> None:
        self.board = board = Board()
        self.first = build(board, [Leaf(0x5000, 3, IPA, first_attributes)])
        pages = sorted({place & -4096 for place in self.first.places.values()})
        leaves = [Leaf(pa, 3, pa, S2) for pa in pages]
        self.second = build(board, [Leaf(IPA, 3, PA, second_attributes), *leaves], bits=40, start=1)

    def controls(self, hcr: int = 0, tcr: int = 0) -> Controls:
        c = guest(self.second, self.first, hcr)
        c.tcr |= tcr
        return c

    def table(self, level: int) -> int:
        """IPA of the stage 1 table of a level."""
        return self.first.places[level, 0 if level < 3 else 0x5000] & -4096


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [READ, WRITE, EXECUTE])
def test_a_stage_1_table_that_stage_2_does_not_map(level: int, kind: int) -> None:
    both = Both()
    both.second.patch(3, both.table(level), 0)
    fault = both.board.fault(both.controls(), 0x5000, kind)  # type: ignore[arg-type]
    assert (fault.fsc, fault.stage, fault.s1ptw) == (TRANSLATION + 3, 2, True)
    assert fault.ipa & -4096 == both.table(level)
    assert fault.va == 0x5000


def test_a_stage_1_table_that_is_not_readable() -> None:
    both = Both()
    both.second.patch(3, both.table(2), both.table(2) | AF | S2_W | NORMAL | 3)
    fault = both.board.fault(both.controls(), 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw, fault.kind) == (PERMISSION + 3, 2, True, READ)


def test_a_read_only_stage_1_table_is_walked_but_not_updated() -> None:
    both = Both(first_attributes=0)
    both.second.patch(3, both.table(3), both.table(3) | AF | S2_R | NORMAL | 3)
    assert both.board.fault(both.controls(), 0x5000).fsc == FSC_ACCESS_FLAG + 3
    fault = both.board.fault(both.controls(tcr=1 << 39), 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw, fault.kind) == (PERMISSION + 3, 2, True, WRITE)
    assert both.first.descriptor(3, 0x5000) & AF == 0


def test_a_stage_1_table_in_device_memory() -> None:
    both = Both()
    both.second.patch(3, both.table(1), both.table(1) | AF | RW | 3)
    assert both.board.mapping(both.controls(), 0x5000).pa == PA
    fault = both.board.fault(both.controls(PTW), 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw) == (PERMISSION + 3, 2, True)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_stage_1_table_in_a_granule_of_another_world(level: int) -> None:
    both = Both()
    both.board.give(both.table(level), Gpi.ROOT)
    fault = both.board.fault(both.controls(), 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw) == (FSC_GPF_WALK + level, 1, False)


def test_a_stage_2_table_under_a_stage_1_walk_in_a_granule_of_another_world() -> None:
    both = Both()
    both.board.give(both.second.places[3, both.table(0)] & -4096, Gpi.ROOT)
    fault = both.board.fault(both.controls(), 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw) == (FSC_GPF_WALK + 3, 2, True)


def test_stage_1_permissions_come_first() -> None:
    both = Both(AF | 1 << 7, AF | S2_R | NORMAL)
    fault = both.board.fault(both.controls(), 0x5000, WRITE)
    assert (fault.fsc, fault.stage) == (PERMISSION + 3, 1)
    both = Both(AF | 1 << 7, 0)
    assert both.board.fault(both.controls(), 0x5000, WRITE).stage == 1
    assert both.board.fault(both.controls(), 0x5000, READ).stage == 2


def test_rights_are_those_of_both_stages() -> None:
    both = Both(AF | 1 << 53, AF | S2_R | NORMAL)
    mapping = both.board.mapping(both.controls(), 0x5000)
    assert (mapping.read, mapping.write, mapping.execute) == (True, False, False)


def test_an_output_of_stage_1_beyond_the_ipa_space(board: Board) -> None:
    first = build(board, [Leaf(0x5000, 3, 1 << 41)])
    second = build(board, [Leaf(first.root & -0x20_0000, 2, first.root & -0x20_0000, S2)], bits=40, start=1)
    fault = board.fault(guest(second, first), 0x5000)
    assert (fault.fsc, fault.stage, fault.ipa, fault.s1ptw) == (TRANSLATION, 2, 1 << 41, False)


def test_a_base_register_beyond_the_ipa_space(board: Board) -> None:
    c = guest(page(board), build(board, [Leaf(0x5000, 3, IPA)]))
    c.ttbr0 = 1 << 41
    fault = board.fault(c, 0x5000)
    assert (fault.fsc, fault.stage, fault.s1ptw) == (TRANSLATION, 2, True)


def test_an_output_of_stage_1_that_no_memory_answers(board: Board) -> None:
    tables = page(board)
    tables.patch(3, IPA, NOWHERE | S2 | 3)
    assert board.mapping(guest(tables), IPA).pa == NOWHERE
