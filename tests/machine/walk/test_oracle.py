"""Translation against an oracle that walks nothing: it knows the list of leaves that the tables were made from.

The oracle searches regions by comparison of addresses, and reads permissions from the tables of the Arm ARM as printed.
"""

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from realmkit.arch.pas import Gpi, SecurityState
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping, mmu
from tests.machine.walk.kit import AF, RAM, Board, Leaf, build, el1, span, start_level, upper

TRANSLATION, ACCESS_FLAG, PERMISSION = 0x04, 0x08, 0x0C
KINDS = (Kind.READ, Kind.WRITE, Kind.EXECUTE)
DATA_EL1 = {"00": "rw", "01": "rw", "10": "r", "11": "r"}
DATA_EL0 = {"00": "", "01": "rw", "10": "", "11": "r"}
"""Arm ARM, data access permissions of stage 1 by AP[2:1]."""
S2_DATA = {"00": "", "01": "r", "10": "w", "11": "rw"}
"""By S2AP."""
S2_FETCH = {"00": ("EL1", "EL0"), "01": ("EL0",), "10": (), "11": ("EL1",)}
"""By XN[1:0], which exception levels may execute (FEAT_XNX)."""
BLOCK_LEVELS = {4096: (1, 2, 3), 16384: (2, 3), 65536: (2, 3)}

granules = st.sampled_from([4096, 16384, 65536])


def bit(value: int, n: int) -> str:
    return "1" if value & 1 << n else "0"


@st.composite
def leaf_lists(draw: st.DrawFn, granule: int, bits: int, start: int, attributes: st.SearchStrategy[int]) -> list[Leaf]:
    """Leaves that do not overlap, some of them neighbours."""
    leaves: list[Leaf] = []
    for _ in range(draw(st.integers(0, 6))):
        level = draw(st.sampled_from([n for n in BLOCK_LEVELS[granule] if n >= start]))
        size = span(granule, level)
        if size > 1 << bits:
            continue
        near = draw(st.sampled_from([0, *(leaf.va + span(granule, leaf.level) for leaf in leaves), (1 << bits) - size]))
        number = draw(st.one_of(st.just(near // size), st.integers(0, (1 << bits) // size - 1)))
        va = min(number, (1 << bits) // size - 1) * size
        if all(va + size <= other.va or other.va + span(granule, other.level) <= va for other in leaves):
            pa = draw(st.integers(0, (1 << 40) // size - 1)) * size
            leaves.append(Leaf(va, level, pa, draw(attributes)))
    return leaves


def search(leaves: list[Leaf], granule: int, start: int, va: int) -> Leaf | int:
    """The leaf that covers ``va``, or the level at which nothing is there."""
    for leaf in leaves:
        if leaf.va <= va < leaf.va + span(granule, leaf.level):
            return leaf
    level = start
    while any(leaf.level > level and leaf.va // span(granule, level) == va // span(granule, level) for leaf in leaves):
        level += 1
    return level


def stage1_rights(attributes: int, privileged: bool, pan: bool, wxn: bool) -> str:
    """Rights by the printed tables."""
    ap = bit(attributes, 7) + bit(attributes, 6)
    own = DATA_EL1[ap] if privileged else DATA_EL0[ap]
    never = bit(attributes, 53) if privileged else bit(attributes, 54)
    execute = never == "0" and not (privileged and ap == "01") and not (wxn and "w" in own)
    if privileged and pan and DATA_EL0[ap]:
        own = ""
    return own + ("x" if execute else "")


attributes1 = st.builds(
    lambda ap, never, af: ap << 6 | never << 53 | (AF if af else 0),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans() | st.just(True),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_stage_1(data: st.DataObject) -> None:
    granule, bits = data.draw(granules), data.draw(st.integers(25, 48))
    start = start_level(granule, bits)
    leaves = data.draw(leaf_lists(granule, bits, start, attributes1))
    board = Board()
    board.gpc.configure(0, 0)
    tables = build(board, leaves, granule, bits)
    high, wxn = data.draw(st.booleans()), data.draw(st.booleans())
    c = el1(None if high else tables, tables if high else None, sctlr=1 | wxn << 19)
    interesting = [edge for leaf in leaves for edge in (leaf.va, leaf.va + span(granule, leaf.level))]
    for _ in range(8):
        anchor = data.draw(st.sampled_from([*interesting, 0, (1 << bits) - 1]))
        offset = (anchor + data.draw(st.integers(-1, 1) | st.integers(0, (1 << bits) - 1))) % (1 << bits)
        kind, privileged, pan = data.draw(st.sampled_from(KINDS)), data.draw(st.booleans()), data.draw(st.booleans())
        va = upper(tables, offset) if high else offset
        found = board.translate(c, va, kind, privileged, pan)
        expected = search(leaves, granule, start, offset)
        if isinstance(expected, int):
            assert found == Fault(TRANSLATION + expected, 1, va, kind)
        elif not expected.attributes & AF:
            assert found == Fault(ACCESS_FLAG + expected.level, 1, va, kind)
        else:
            rights = stage1_rights(expected.attributes, privileged, pan, wxn)
            if "rwx"[kind] not in rights:
                assert found == Fault(PERMISSION + expected.level, 1, va, kind)
            else:
                assert isinstance(found, Mapping)
                assert found.pa == (expected.pa + offset - expected.va) & -4096
                assert (
                    "".join(x for x, on in zip("rwx", (found.read, found.write, found.execute), strict=True) if on)
                    == rights
                )


attributes2 = st.builds(
    lambda ap, never, af, ns: ap << 6 | never << 53 | (AF if af else 0) | ns << 55 | 0xF << 2,
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans() | st.just(True),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_stage_2(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 2))
    low = 1 + 12 + 9 * (3 - start)
    bits = data.draw(st.integers(max(low, 25), min(low + 12, 48)))
    state = data.draw(st.sampled_from([SecurityState.NS, SecurityState.REALM]))
    leaves = data.draw(leaf_lists(4096, bits, start, attributes2))
    board = Board(state)
    board.gpc.configure(0, 0)
    tables = build(board, leaves, 4096, bits, start)
    vtcr = 5 << 16 | {2: 0, 1: 1, 0: 2}[start] << 6 | 64 - bits
    c = Controls(state, hcr=1, vtcr=vtcr, vttbr=3 << 48 | tables.root)
    for _ in range(8):
        anchor = data.draw(
            st.sampled_from([0, (1 << bits) - 1, *(leaf.va + span(4096, leaf.level) for leaf in leaves)])
        )
        ipa = (anchor + data.draw(st.integers(-1, 1) | st.integers(0, (1 << bits) - 1))) % (1 << bits)
        kind, privileged = data.draw(st.sampled_from(KINDS)), data.draw(st.booleans())
        found = board.translate(c, ipa, kind, privileged)
        expected = search(leaves, 4096, start, ipa)
        if isinstance(expected, int):
            assert found == Fault(TRANSLATION + expected, 2, ipa, kind, ipa)
            continue
        if not expected.attributes & AF:
            assert found == Fault(ACCESS_FLAG + expected.level, 2, ipa, kind, ipa)
            continue
        rights = S2_DATA[bit(expected.attributes, 7) + bit(expected.attributes, 6)]
        outside = state is SecurityState.REALM and bit(expected.attributes, 55) == "1"
        level = "EL1" if privileged else "EL0"
        if level in S2_FETCH[bit(expected.attributes, 54) + bit(expected.attributes, 53)] and not outside:
            rights += "x"
        if "rwx"[kind] not in rights:
            assert found == Fault(PERMISSION + expected.level, 2, ipa, kind, ipa)
        else:
            assert isinstance(found, Mapping)
            assert found.pa == (expected.pa + ipa - expected.va) & -4096
            assert found.pas.name == ("NS" if outside else state.name)


# ---- the cache ----

PAGES = [0x1000 * n for n in range(6)]
POOL = [RAM + 0x300_0000 + 0x1000 * n for n in range(6)]
VMIDS = (1, 2)


class Cache(RuleBasedStateMachine):
    """Whatever software does to tables and granules, with the maintenance that the architecture asks for, a cached
    translation is the one that a walk finds now.
    """

    @initialize()
    def begin(self) -> None:
        self.board = Board(SecurityState.REALM)
        self.limit = patch.object(mmu, "CACHE_PAGES", 5)
        self.limit.start()
        self.tables = {vmid: build(self.board, [Leaf(page, 3, 0, 0) for page in PAGES], 4096, 39, 1) for vmid in VMIDS}
        self.saved: dict[int, int] = {}
        for tables in self.tables.values():
            for page in PAGES:
                tables.patch(3, page, 0)
        self.first = build(self.board, [Leaf(0x40_0000 + page, 3, page) for page in PAGES], bits=39)

    def teardown(self) -> None:
        self.limit.stop()

    def controls(self, vmid: int, stage1: bool) -> Controls:
        c = el1(self.first, state=SecurityState.REALM) if stage1 else Controls(SecurityState.REALM)
        c.hcr, c.vtcr, c.vttbr = 1, 5 << 16 | 1 << 6 | 25, vmid << 48 | self.tables[vmid].root
        return c

    def maintain(self, vmid: int, page: int, how: str) -> None:
        mmu = self.board.mmu
        match how:
            case "page":
                mmu.invalidate_ipa(vmid, page, 0x1000)
            case "range":
                mmu.invalidate_ipa(vmid, 0, 0x20_0000)
            case "vmid":
                mmu.invalidate_vmid(vmid)
            case _:
                mmu.invalidate_all()

    ways = st.sampled_from(["page", "range", "vmid", "all"])

    @rule(
        vmid=st.sampled_from(VMIDS),
        page=st.sampled_from(PAGES),
        pa=st.sampled_from(POOL),
        attributes=attributes2,
        how=ways,
    )
    def map(self, vmid: int, page: int, pa: int, attributes: int, how: str) -> None:
        self.tables[vmid].patch(3, page, pa | attributes | 3)
        self.maintain(vmid, page, how)

    @rule(vmid=st.sampled_from(VMIDS), page=st.sampled_from(PAGES), how=ways)
    def unmap(self, vmid: int, page: int, how: str) -> None:
        self.tables[vmid].patch(3, page, 0)
        self.maintain(vmid, page, how)

    @rule(vmid=st.sampled_from(VMIDS), attributes=attributes2)
    def block(self, vmid: int, attributes: int) -> None:
        """A 2 MB block in place of the table, or the table again."""
        tables = self.tables[vmid]
        if vmid in self.saved:
            tables.patch(2, 0, self.saved.pop(vmid))
        else:
            self.saved[vmid] = tables.descriptor(2, 0)
            tables.patch(2, 0, POOL[0] & -0x20_0000 | attributes | 1)
        self.maintain(vmid, 0, "range")

    @rule(pa=st.sampled_from(POOL), gpi=st.sampled_from([Gpi.NS, Gpi.REALM, Gpi.ROOT, Gpi.ANY, Gpi.NO_ACCESS]))
    def give(self, pa: int, gpi: Gpi) -> None:
        """The Monitor invalidates by physical address only."""
        self.board.give(pa, gpi)

    @rule()
    def give_everything(self) -> None:
        self.board.gpc.invalidate_all()

    @rule(
        vmid=st.sampled_from(VMIDS),
        page=st.sampled_from(PAGES),
        kind=st.sampled_from(KINDS),
        privileged=st.booleans(),
        stage1=st.booleans(),
    )
    def access(self, vmid: int, page: int, kind: Kind, privileged: bool, stage1: bool) -> None:
        c = self.controls(vmid, stage1)
        va = page + 0x123 + (0x40_0000 if stage1 else 0)
        access = Access(kind, privileged)
        fresh = self.board.new_mmu().translate(c, va, access)
        for _ in range(2):
            assert self.board.mmu.translate(c, va, access) == fresh


Cache.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCache = Cache.TestCase
