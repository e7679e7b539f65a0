"""Memory with granule protection, tables made from lists of leaves, and translation on top of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from realmkit.arch.pas import Gpi, SecurityState
from realmkit.machine.bus import Interconnect
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.gpt import GPCCR_EL3, level0_block, level0_table, level1_granules
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.platform import AddressRange
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping, Mmu

RAM, RAM_SIZE = 0x8000_0000, 0x400_0000
L0, L1 = 0, 0x20_0000
NOWHERE = 0x4000_0000
"""Every world may access it, but no memory answers."""
READ, WRITE, EXECUTE = Kind.READ, Kind.WRITE, Kind.EXECUTE
AF = 1 << 10
NORMAL, DEVICE = 0, 1 << 2
"""Attribute index 0 and 1 of :data:`MAIR`."""
MAIR = 0x00FF
HIGH = 0xFFFF_0000_0000_0000


class Board:
    """RAM of one world; single granules can be given to another one."""

    def __init__(self, state: SecurityState = SecurityState.NS) -> None:
        self.state = state
        self.memory = PhysicalMemory([AddressRange(RAM, RAM_SIZE), AddressRange(0, 0x40_0000)])
        gpi = Gpi(8 | state)
        self.memory.write64(L0 + 8, level0_block(Gpi.ANY))
        self.memory.write64(L0 + 16, level0_table(L1))
        self.memory.write(L1, level1_granules(gpi).to_bytes(8, "little") * 0x4000)
        self.gpc = GranuleProtection(self.memory)
        self.gpc.configure(GPCCR_EL3.make(PPS=5, IRGN=1, ORGN=1, SH=3, GPC=1), L0)
        self.interconnect = Interconnect(self.memory, self.gpc)
        self.mmu = self.new_mmu()
        self.gpc.listeners.append(self.mmu.invalidate_pa)
        self._next = RAM

    def _invalidate(self, pa: int, size: int) -> None:
        self.mmu.invalidate_pa(pa, size)

    def new_mmu(self) -> Mmu:
        """Translation with an empty cache."""
        return Mmu(self.interconnect.bus(self.state), self.gpc)

    def give(self, pa: int, gpi: Gpi) -> None:
        """Assign a granule, as the Monitor does."""
        where, shift = L1 + (pa - RAM >> 16) * 8, (pa >> 12 & 0xF) * 4
        self.memory.write64(where, self.memory.read64(where) & ~(0xF << shift) | gpi << shift)
        self.gpc.invalidate(pa, 0x1000)

    def allocate(self, size: int, alignment: int = 0) -> int:
        """Memory for a table, aligned to its size."""
        alignment = alignment or size
        self._next = -(-self._next // alignment) * alignment
        base = self._next
        self._next += size
        assert self._next <= RAM + RAM_SIZE
        return base

    def translate(
        self, c: Controls, va: int, kind: Kind = READ, privileged: bool = True, pan: bool = False
    ) -> Mapping | Fault:
        """One access."""
        return self.mmu.translate(c, va, Access(kind, privileged, pan))

    def fault(self, c: Controls, va: int, kind: Kind = READ, privileged: bool = True, pan: bool = False) -> Fault:
        """An access that faults."""
        found = self.translate(c, va, kind, privileged, pan)
        assert isinstance(found, Fault), found
        assert (found.va, found.kind) == (va, kind) or found.s1ptw or found.kind is WRITE
        return found

    def mapping(self, c: Controls, va: int, kind: Kind = READ, privileged: bool = True, pan: bool = False) -> Mapping:
        """An access that proceeds."""
        found = self.translate(c, va, kind, privileged, pan)
        assert isinstance(found, Mapping), found
        return found


@dataclass(frozen=True)
class Leaf:
    """A block or page: input address, level, output address, attributes."""

    va: int
    level: int
    pa: int
    attributes: int = AF


@dataclass
class Tables:
    """A translation table that holds ``leaves``: ``root``, and where each descriptor lies."""

    board: Board
    granule: int
    bits: int
    start: int
    root: int
    places: dict[tuple[int, int], int] = field(default_factory=dict)
    """(level, first input address) to the descriptor's address."""

    def span(self, level: int) -> int:
        """Bytes that one descriptor describes."""
        return span(self.granule, level)

    def patch(self, level: int, va: int, value: int) -> None:
        """Overwrite a descriptor."""
        self.board.memory.write64(self.places[level, va], value)

    def descriptor(self, level: int, va: int) -> int:
        """A descriptor as it stands in memory."""
        return self.board.memory.read64(self.places[level, va])


def span(granule: int, level: int) -> int:
    """Bytes that one descriptor of a level describes: by repeated multiplication, not by shifts."""
    size = granule
    for _ in range(3 - level):
        size *= granule // 8
    return size


def start_level(granule: int, bits: int) -> int:
    """Starting level of a stage 1 walk: the last one whose single table covers the input size."""
    level = 3
    while span(granule, level) * (granule // 8) < 1 << bits:
        level -= 1
    return level


def build(
    board: Board,
    leaves: Iterable[Leaf],
    granule: int = 4096,
    bits: int = 48,
    start: int | None = None,
    table_attributes: int = 0,
) -> Tables:
    """Tables in memory; input addresses are offsets into the range. ``start``: another starting level (stage 2)."""
    first = start_level(granule, bits) if start is None else start
    entries = max((1 << bits) // span(granule, first), 1)
    root = board.allocate(max(entries * 8, 64))
    tables = Tables(board, granule, bits, first, root)
    known = {(first, 0): root}
    for leaf in leaves:
        table = root
        for level in range(first, leaf.level + 1):
            size = span(granule, level)
            base = leaf.va // size * size
            slot = leaf.va // size if level == first else leaf.va // size % (granule // 8)
            place = table + 8 * slot
            tables.places[level, base] = place
            if level == leaf.level:
                board.memory.write64(place, leaf.pa | leaf.attributes | (3 if level == 3 else 1))
            elif (level + 1, base) not in known:
                known[level + 1, base] = board.allocate(granule)
                board.memory.write64(place, known[level + 1, base] | table_attributes | 3)
            table = known.get((level + 1, base), 0)
    return tables


TG0 = {4096: 0, 65536: 1, 16384: 2}
TG1 = {16384: 1, 4096: 2, 65536: 3}


def el1(
    low: Tables | None = None,
    high: Tables | None = None,
    tcr: int = 0,
    sctlr: int = 1,
    state: SecurityState = SecurityState.NS,
) -> Controls:
    """EL1&0 with stage 1 on; 48-bit output."""
    value = tcr | 5 << 32
    value |= 64 - low.bits | TG0[low.granule] << 14 if low else 1 << 7 | 16
    value |= (64 - high.bits) << 16 | TG1[high.granule] << 30 if high else 1 << 23 | 16 << 16 | 2 << 30
    roots = low.root if low else 0, high.root if high else 0
    return Controls(state, False, sctlr, value, *roots, MAIR)


def el2(low: Tables, tcr: int = 0, sctlr: int = 1, state: SecurityState = SecurityState.NS) -> Controls:
    """EL2 with stage 1 on."""
    value = tcr | 5 << 16 | 64 - low.bits | TG0[low.granule] << 14
    return Controls(state, True, sctlr, value, low.root, 0, MAIR)


def upper(tables: Tables, offset: int) -> int:
    """Address in the TTBR1 range."""
    return (1 << 64) - (1 << tables.bits) + offset
