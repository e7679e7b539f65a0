"""What is found without a walk is what a walk finds, whatever happens to descriptors, stage 2 and granules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from realmkit.arch.pas import Gpi, SecurityState
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping
from realmkit.machine.walk.stage1 import LEAVES, KnownTables
from tests.machine.walk.kit import AF, RAM, READ, WRITE, Board, Leaf, Tables, build, el1, el2, span

BASE = 0x2000_0000
"""First address that stage 1 maps."""
LEAF_COUNT = 3
PHYSICAL = [RAM + 0x300_0000 + 0x1000 * n for n in range(4)]
TABLE_COPIES = RAM + 0x200_0000
S2_NORMAL = 0xF << 2 | 3 << 6 | AF
KINDS = (Kind.READ, Kind.WRITE, Kind.EXECUTE)
granules = st.sampled_from([4096, 16384, 65536])
attributes1 = st.builds(
    lambda xn, dbm, low, af: xn << 53 | dbm << 51 | low << 5 | (AF if af else 0),
    st.integers(0, 3),
    st.integers(0, 1),
    st.sampled_from([n | ng << 6 for n in range(8) for ng in (0, 1)]),
    st.booleans() | st.just(True),
)
"""UXN, PXN, DBM, nG, AP[2:1], NS, AF."""
attributes2 = st.builds(
    lambda xn, dbm, ap, memory: xn << 53 | dbm << 51 | ap << 6 | memory << 2 | AF,
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 3) | st.just(3),
    st.sampled_from([0xF, 0]),
)


class Known(RuleBasedStateMachine):
    """One virtual machine (or none) whose software changes last-level descriptors without any TLBI: they are read
    each time. Stage 2 and granules change with the maintenance that they need.
    """

    @initialize(
        granule=granules,
        level=st.sampled_from([3, 3, 2]),
        state=st.sampled_from([SecurityState.NS, SecurityState.REALM, SecurityState.SECURE]),
        staged=st.booleans(),
        hardware=st.integers(0, 3),
        inherited=st.integers(0, 31),
        wxn=st.booleans(),
        regime=st.sampled_from([1, 1, 2]),
    )
    def begin(
        self,
        granule: int,
        level: int,
        state: SecurityState,
        staged: bool,
        hardware: int,
        inherited: int,
        wxn: bool,
        regime: int,
    ) -> None:
        self.known: dict[tuple[bool, bool], KnownTables] = {}
        self.board = Board(state)
        self.level, self.size = level, span(granule, level)
        self.type = 3 if level == 3 else 1
        self.pages = self.board.allocate(granule)
        self.board.memory.write(self.pages, (AF | 3).to_bytes(8, "little") * 4)
        leaves = [Leaf(BASE + n * self.size, level, n * self.size) for n in range(LEAF_COUNT)]
        # Without the last bit of NSTable, which leads walks of the Secure state elsewhere.
        self.first = build(self.board, leaves, granule, 39, table_attributes=(inherited & 15) << 59)
        if regime == 2:
            self.controls = el2(self.first, (hardware << 21), 1 | wxn << 19, state)
        else:
            self.controls = el1(self.first, tcr=hardware << 39, sctlr=1 | wxn << 19, state=state)
        self.second: Tables | None = None
        if staged and regime == 1:
            self.stage_2()
        else:
            for n in range(LEAF_COUNT):
                self.write(n, PHYSICAL[0] & -self.size | AF)

    def stage_2(self) -> None:
        self.table_pages = sorted({self.pages, *(place & -4096 for place in self.first.places.values())})
        self.data_pages = [n * self.size for n in range(LEAF_COUNT)]
        pages = {page: page for page in self.table_pages} | dict.fromkeys(self.data_pages, PHYSICAL[0])
        self.second = build(
            self.board, [Leaf(page, 3, pa, S2_NORMAL) for page, pa in sorted(pages.items())], bits=39, start=1
        )
        c = self.controls
        c.hcr, c.vtcr, c.vttbr = 1, 3 << 21 | 5 << 16 | 1 << 6 | 25, 7 << 48 | self.second.root

    def write(self, leaf: int, value: int) -> None:
        """Change a descriptor; where it has been a table, with a TLBI of all levels."""
        va = BASE + leaf * self.size
        if self.level == 2 and self.first.descriptor(2, va) & 3 == 3:
            self.known = {}
        self.first.patch(self.level, va, value | self.type)

    @rule(leaf=st.integers(0, LEAF_COUNT - 1))
    def split(self, leaf: int) -> None:
        """A table in place of a block."""
        if self.level == 2:
            self.first.patch(2, BASE + leaf * self.size, self.pages | 3)

    @rule(leaf=st.integers(0, LEAF_COUNT - 1), to=st.integers(0, LEAF_COUNT - 1), attributes=attributes1)
    def change_leaf(self, leaf: int, to: int, attributes: int) -> None:
        output = PHYSICAL[to] & -self.size if self.second is None else to * self.size
        self.write(leaf, output | attributes)

    @rule(leaf=st.integers(0, LEAF_COUNT - 1))
    def remove_leaf(self, leaf: int) -> None:
        self.write(leaf, 0)
        self.first.patch(self.level, BASE + leaf * self.size, 0)

    @rule(leaf=st.integers(0, LEAF_COUNT - 1))
    def lead_too_far(self, leaf: int) -> None:
        self.controls.pa_bits = 40
        self.known = {}
        self.write(leaf, 1 << 44 | AF)

    @rule(number=st.integers(0, 5), pa=st.sampled_from([*PHYSICAL, None]), attributes=attributes2)
    def change_stage_2(self, number: int, pa: int | None, attributes: int) -> None:
        """A page of data, or one with tables of stage 1 in it, which moves or goes away."""
        if self.second is None:
            return
        pages = [*self.data_pages, *self.table_pages]
        page = pages[number % len(pages)]
        if page in self.table_pages:
            if pa is not None:
                pa = TABLE_COPIES + 0x1000 * self.table_pages.index(page)
                self.board.memory.write(pa, self.board.memory.read(page, 4096))
            if page != self.first.places[self.level, BASE] & -4096:
                # Stage 2 maintenance makes PEs forget where tables are.
                self.known = {}
            attributes |= 3 << 6 if number & 1 else 0
        self.second.patch(3, page, 0 if pa is None else pa | attributes | 3)
        self.board.mmu.invalidate_ipa(7, page, 4096)

    @rule()
    def restore_stage_2(self) -> None:
        if self.second is not None:
            for page in self.table_pages:
                self.second.patch(3, page, page | S2_NORMAL | 3)
            self.board.mmu.invalidate_vmid(7)

    @rule(pa=st.sampled_from(PHYSICAL), gpi=st.sampled_from([None, None, Gpi.ROOT, Gpi.ANY]))
    def give(self, pa: int, gpi: Gpi | None) -> None:
        self.board.give(pa, Gpi(8 | self.board.state) if gpi is None else gpi)

    @rule()
    def forget_granules(self) -> None:
        self.board.gpc.invalidate_all()

    @rule(
        leaf=st.integers(0, LEAF_COUNT - 1),
        offset=st.integers(0, 0xFFFF),
        kinds=st.permutations(KINDS),
        privileged=st.booleans(),
        pan=st.booleans(),
    )
    def access(self, leaf: int, offset: int, kinds: list[Kind], privileged: bool, pan: bool) -> None:
        c, board = self.controls, self.board
        va = BASE + leaf * self.size + offset % self.size
        privileged = privileged or c.el2
        tables = self.known.setdefault((privileged, pan), {})
        for kind in (*kinds, kinds[0]):
            access = Access(kind, privileged, pan)
            quick = board.mmu.known(c, va, kind, privileged, tables)
            before = board.memory.read64(self.first.places[self.level, BASE + leaf * self.size])
            fresh = board.new_mmu().translate(c, va, access)
            if quick is not None:
                assert quick == (fresh if isinstance(quick, Fault) else expected(fresh))
                assert before == board.memory.read64(self.first.places[self.level, BASE + leaf * self.size])
            assert board.mmu.translate(c, va, access, tables) == fresh


def expected(found: Mapping | Fault) -> tuple[int, int, bool, int]:
    assert isinstance(found, Mapping)
    rights = found.read | found.write << 1 | found.execute << 2
    return found.pa, rights, found.not_global, found.reach


Known.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestKnown = Known.TestCase


def staged(state: SecurityState = SecurityState.REALM) -> tuple[Board, Controls, Tables, Tables]:
    """Two pages of stage 1 over stage 2."""
    board = Board(state)
    first = build(board, [Leaf(BASE, 3, 0x1000), Leaf(BASE + 0x1000, 3, 0x1000)], bits=39)
    pages = sorted({place & -4096 for place in first.places.values()})
    leaves = [Leaf(0x1000, 3, PHYSICAL[0], S2_NORMAL), *(Leaf(page, 3, page, S2_NORMAL) for page in pages)]
    second = build(board, leaves, bits=39, start=1)
    c = el1(first, state=state)
    c.hcr, c.vtcr, c.vttbr = 1, 5 << 16 | 1 << 6 | 25, 7 << 48 | second.root
    return board, c, first, second


def test_a_page_beside_one_that_was_walked_to_is_known() -> None:
    board, c, _, _ = staged()
    tables: KnownTables = {}
    assert board.mmu.known(c, BASE, READ, True, tables) is None
    first = board.mmu.translate(c, BASE, Access(READ), tables)
    assert board.mmu.known(c, BASE + 0x1000, WRITE, True, tables) == expected(first)


@pytest.mark.parametrize("what", ["data", "tables"])
def test_a_granule_that_was_taken_away_is_not_known(what: str) -> None:
    board, c, first, _ = staged()
    tables: KnownTables = {}
    board.mmu.translate(c, BASE, Access(READ), tables)
    assert isinstance(board.mmu.known(c, BASE, READ, True, tables), tuple)
    board.give(PHYSICAL[0] if what == "data" else first.places[3, BASE] & -4096, Gpi.NS)
    fault = board.mmu.translate(c, BASE, Access(READ), tables)
    assert isinstance(fault, Fault)
    assert board.mmu.known(c, BASE, READ, True, tables) == (fault if what == "data" else None)


def test_tables_where_nothing_answers_fault_each_time() -> None:
    """Stage 2 leads to an address without RAM, as Non-secure software may have it."""
    board, c, first, second = staged(SecurityState.NS)
    tables: KnownTables = {}
    board.mmu.translate(c, BASE, Access(READ), tables)
    page = first.places[3, BASE] & -4096
    second.patch(3, page, 0x4000_0000 | S2_NORMAL | 3)
    board.mmu.invalidate_ipa(7, page, 4096)
    for _ in range(2):
        assert board.mmu.known(c, BASE, READ, True, tables) is None
        fault = board.mmu.translate(c, BASE, Access(READ), tables)
        assert isinstance(fault, Fault)
        assert fault.fsc == 0x17


@given(st.lists(attributes1, min_size=LEAVES, max_size=3 * LEAVES, unique=True))
@settings(max_examples=20, deadline=None)
def test_what_is_remembered_of_a_table_is_bounded(attributes: list[int]) -> None:
    board, c, first, _ = staged()
    tables: KnownTables = {}
    for value in attributes:
        first.patch(3, BASE, 0x1000 | value | 3)
        board.mmu.translate(c, BASE, Access(READ), tables)
    assert all(len(table.leaves) <= LEAVES for table in tables.values())
