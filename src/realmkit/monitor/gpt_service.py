"""Owner of the granule protection tables: builds them at boot, moves granules between worlds (spec: monitor-rme 3).

The tables lie in Root memory. What is not memory has the GPI ANY: devices decode the physical address space themselves.
"""

from array import array
from typing import Final

from realmkit.arch import smccc
from realmkit.arch.events import GptChange
from realmkit.arch.pas import GRANULE_MASK, GRANULE_SHIFT, GRANULE_SIZE, Gpi, Pas
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.gpt import (
    CONTIGUOUS_SIZE,
    GPCCR_EL3,
    GPTBR_EL3,
    RGN_WRITE_BACK,
    SH_OUTER,
    TYPE_CONTIGUOUS,
    level0_block,
    level0_table,
    level1_contiguous,
    level1_granules,
)
from realmkit.machine.platform import L0_REGION_SHIFT, L1_TABLE_SIZE, Platform
from realmkit.machine.port import Bus, El3Port

PPS_OF_BITS: Final = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5}
REGION_SIZE: Final = 1 << L0_REGION_SHIFT
ENTRY_SHIFT: Final = GRANULE_SHIFT + 4
"""log2 of the bytes that one level 1 entry of sixteen granules describes."""
_SHATTERED_TO: Final = {512 << 20: 32 << 20, 32 << 20: 2 << 20}

_OK: Final = smccc.E_RMM_OK
_BAD_ADDR: Final = smccc.E_RMM_BAD_ADDR
_BAD_PAS: Final = smccc.E_RMM_BAD_PAS
_ROOT: Final = Pas.ROOT
_NS: Final = int(Gpi.NS)
_REALM: Final = int(Gpi.REALM)
_NO_ACCESS: Final = int(Gpi.NO_ACCESS)

_Run = tuple[int, int, Gpi]
"""[start, end) and its GPI."""


class GptService:
    """The only writer of the granule protection tables."""

    def __init__(self, platform: Platform, gpc: GranuleProtection) -> None:
        self._platform = platform
        self._gpc = gpc
        self._delegable = tuple((r.base, r.end) for r in platform.delegable_ranges())
        self._level0 = platform.gpt_root.base
        self._dram_tables = {
            number: platform.gpt.base + position * L1_TABLE_SIZE
            for position, number in enumerate(platform.dram_regions())
        }
        """Where the level 1 table of each gigabyte with DRAM lies, made or not."""
        self._level1: dict[int, int] = {}
        """Level 1 tables in use, by gigabyte."""

    def build(self, bus: Bus) -> None:
        """Write the initial tables and enable the granule protection check.

        Gigabytes whose memory all belongs to one world get a level 0 Block descriptor, whatever their number.
        """
        self._level1.clear()
        regions = 1 << self._platform.pa_bits - L0_REGION_SHIFT
        level0 = array("Q", [level0_block(Gpi.ANY)]) * regions
        mixed: dict[int, list[_Run]] = {}
        for start, end, gpi in self._initial_runs():
            first_whole, last_whole = -(-start // REGION_SIZE), end // REGION_SIZE
            for number in range(start // REGION_SIZE, -(-end // REGION_SIZE)):
                if first_whole <= number < last_whole:
                    level0[number] = level0_block(gpi)
                else:
                    base = number * REGION_SIZE
                    mixed.setdefault(number, []).append((max(start - base, 0), min(end - base, REGION_SIZE), gpi))
        spare = self._level0 + regions * 8
        for number, runs in mixed.items():
            table = self._dram_tables.get(number)
            if table is None:
                table, spare = spare, spare + L1_TABLE_SIZE
            bus.write(Pas.ROOT, table, _level1_image(runs))
            self._level1[number] = table
            level0[number] = level0_table(table)
        bus.write(Pas.ROOT, self._level0, level0.tobytes())
        gpccr = GPCCR_EL3.make(
            PPS=PPS_OF_BITS[self._platform.pa_bits], IRGN=RGN_WRITE_BACK, ORGN=RGN_WRITE_BACK, SH=SH_OUTER, GPC=1
        )
        self._gpc.configure(gpccr, GPTBR_EL3.make(BADDR=self._level0 >> GRANULE_SHIFT))

    def delegate(self, port: El3Port, pa: int) -> int:
        """Non-secure to Realm PAS: E_RMM_OK, BAD_ADDR (not a delegable granule) or BAD_PAS (not Non-secure)."""
        found = self._entry_of(port, pa)
        if found is None:
            return _BAD_ADDR
        location, entry = found
        shift = (pa >> GRANULE_SHIFT & 0xF) << 2
        if entry >> shift & 0xF != _NS:
            return _BAD_PAS
        port.bus.write64(_ROOT, location, entry ^ (_NS ^ _REALM) << shift)
        port.tlbi_pa(pa, GRANULE_SIZE)
        if port.events.active:
            port.events.emit(GptChange(port.now(), port.index, pa, Gpi.NS.name, Gpi.REALM.name))
        return _OK

    def undelegate(self, port: El3Port, pa: int) -> int:
        """Realm to Non-secure PAS: E_RMM_OK, BAD_ADDR (not a delegable granule) or BAD_PAS (not Realm).

        In between nobody has access, so that no stale line of either world can be written back into the other's.
        """
        found = self._entry_of(port, pa)
        if found is None:
            return _BAD_ADDR
        location, entry = found
        shift = (pa >> GRANULE_SHIFT & 0xF) << 2
        if entry >> shift & 0xF != _REALM:
            return _BAD_PAS
        write64 = port.bus.write64
        write64(_ROOT, location, entry ^ (_REALM ^ _NO_ACCESS) << shift)
        port.tlbi_pa(pa, GRANULE_SIZE)
        write64(_ROOT, location, entry ^ (_REALM ^ _NS) << shift)
        port.tlbi_pa(pa, GRANULE_SIZE)
        if port.events.active:
            port.events.emit(GptChange(port.now(), port.index, pa, Gpi.REALM.name, Gpi.NS.name))
        return _OK

    def _entry_of(self, port: El3Port, pa: int) -> tuple[int, int] | None:
        """Address and value of a delegable granule's Granules descriptor, made on demand; None for other addresses."""
        if pa & GRANULE_MASK:
            return None
        for start, end in self._delegable:
            if start <= pa < end:
                break
        else:
            return None
        number = pa >> L0_REGION_SHIFT
        table = self._level1.get(number)
        if table is None:
            table = self._make_table(port, number)
        location = table + ((pa & REGION_SIZE - 1) >> ENTRY_SHIFT << 3)
        entry = port.bus.read64(_ROOT, location)
        if entry & 0xF == TYPE_CONTIGUOUS:
            self._shatter(port, table, pa)
            entry = port.bus.read64(_ROOT, location)
        return location, entry

    def _make_table(self, port: El3Port, number: int) -> int:
        """Replace a level 0 Block descriptor of Non-secure DRAM by a level 1 table that says the same."""
        table = self._dram_tables[number]
        port.bus.write(Pas.ROOT, table, _level1_image([(0, REGION_SIZE, Gpi.NS)]))
        port.bus.write64(Pas.ROOT, self._level0 + number * 8, level0_table(table))
        port.tlbi_pa(number * REGION_SIZE, REGION_SIZE)
        self._level1[number] = table
        return table

    @staticmethod
    def _shatter(port: El3Port, table: int, pa: int) -> None:
        """Replace Contiguous descriptors around ``pa`` by smaller ones until its entry holds granules."""
        offset = pa & REGION_SIZE - 1
        location = table + (offset >> ENTRY_SHIFT << 3)
        largest = 0
        while (entry := port.bus.read64(Pas.ROOT, location)) & 0xF == TYPE_CONTIGUOUS:
            size = CONTIGUOUS_SIZE[entry >> 8]
            gpi = Gpi(entry >> 4 & 0xF)
            smaller = _SHATTERED_TO.get(size)
            descriptor = level1_granules(gpi) if smaller is None else level1_contiguous(gpi, smaller)
            first = table + ((offset & -size) >> ENTRY_SHIFT << 3)
            port.bus.write(Pas.ROOT, first, descriptor.to_bytes(8, "little") * (size >> ENTRY_SHIFT))
            largest = max(largest, size)
        port.tlbi_pa(pa & -largest, largest)

    def _initial_runs(self) -> list[_Run]:
        platform = self._platform
        runs = [
            *((r, Gpi.ROOT) for r in (*platform.root, platform.gpt)),
            *((r, Gpi.SECURE) for r in platform.secure),
            *((r, Gpi.NS) for r in platform.nonsecure_ram()),
            (platform.rmm, Gpi.REALM),
        ]
        return sorted((r.base, r.end, gpi) for r, gpi in runs)


def _level1_image(runs: list[_Run]) -> bytes:
    """Level 1 table of a gigabyte from ascending runs of offsets: the largest descriptors that fit, ANY in the gaps."""
    filled: list[_Run] = []
    position = 0
    for start, end, gpi in runs:
        if start > position:
            filled.append((position, start, Gpi.ANY))
        filled.append((start, end, gpi))
        position = end
    if position < REGION_SIZE:
        filled.append((position, REGION_SIZE, Gpi.ANY))
    entries = array("Q", bytes(L1_TABLE_SIZE))
    sizes = (*sorted(CONTIGUOUS_SIZE.values(), reverse=True), 1 << ENTRY_SHIFT)
    for start, end, gpi in filled:
        position = start
        while position < end:
            size = next((s for s in sizes if not position % s and position + s <= end), GRANULE_SIZE)
            first = position >> ENTRY_SHIFT
            if size == GRANULE_SIZE:
                entries[first] |= gpi << ((position >> GRANULE_SHIFT & 0xF) << 2)
            else:
                granules = size == 1 << ENTRY_SHIFT
                descriptor = level1_granules(gpi) if granules else level1_contiguous(gpi, size)
                entries[first : first + (size >> ENTRY_SHIFT)] = array("Q", [descriptor]) * (size >> ENTRY_SHIFT)
            position += size
    return entries.tobytes()
