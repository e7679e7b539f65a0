"""Stage 2 tables of a plain VM, written by the Host in Non-secure memory (Arm ARM D8; 4 KB granule)."""

from typing import Final

from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.vmsa import (
    ADDR_MASK_48,
    DESC_AF,
    DESC_BLOCK,
    DESC_PAGE,
    DESC_SH_INNER,
    DESC_TABLE,
    DESC_VALID,
    ENTRIES,
    S2_AP_READ,
    S2_AP_WRITE,
    S2_MEMATTR_SHIFT,
    VTCR_EL2,
    entry_size,
    shift,
    starting_tables,
)
from realmkit.host.memory import HostMemory
from realmkit.machine.port import Bus

_NORMAL: Final = 0b1111 << S2_MEMATTR_SHIFT | S2_AP_READ | S2_AP_WRITE | DESC_SH_INNER | DESC_AF
"""Normal Write-Back, read and write."""
_SL0: Final = {0: 2, 1: 1, 2: 0}
_PS_48: Final = 5
_PAGE_LEVEL: Final = 3


class Stage2Tables:
    """Translation of the intermediate physical addresses of one VM, ``ipa_width`` bits of them."""

    def __init__(self, bus: Bus, memory: HostMemory, ipa_width: int, vmid: int) -> None:
        self._bus = bus
        self._memory = memory
        self._start = 1 if starting_tables(ipa_width, 1) else 0
        self._count = starting_tables(ipa_width, self._start) or 1
        self._root = memory.allocate_run(self._count, self._count * GRANULE_SIZE)
        self._tables: list[int] = []
        self.vttbr = self._root | vmid << 48
        """VTTBR_EL2."""
        self.vtcr = VTCR_EL2.make(
            T0SZ=64 - ipa_width, SL0=_SL0[self._start], IRGN0=1, ORGN0=1, SH0=3, PS=_PS_48, VS=int(vmid > 0xFF)
        )
        """VTCR_EL2."""

    def map(self, ipa: int, pa: int, level: int, *, writable: bool = True) -> None:
        """Map a block (``level`` 1 or 2) or a page (3) where nothing is mapped."""
        place, _ = self._walk(ipa, level, create=True)
        attributes = _NORMAL if writable else _NORMAL & ~S2_AP_WRITE
        self._bus.write64(Pas.NS, place, pa | attributes | (DESC_PAGE if level == _PAGE_LEVEL else DESC_BLOCK))

    def unmap(self, ipa: int) -> None:
        """Unmap a page; the caller invalidates what is cached of it."""
        place, level = self._walk(ipa, _PAGE_LEVEL, create=False)
        if level == _PAGE_LEVEL:
            self._bus.write64(Pas.NS, place, 0)

    def find(self, ipa: int) -> int | None:
        """Physical address that ``ipa`` is mapped to."""
        place, level = self._walk(ipa, _PAGE_LEVEL, create=False)
        descriptor = self._bus.read64(Pas.NS, place)
        if not descriptor & DESC_VALID:
            return None
        offset = entry_size(level) - 1
        return descriptor & ADDR_MASK_48 & ~offset | ipa & offset

    def _walk(self, ipa: int, target: int, *, create: bool) -> tuple[int, int]:
        """Address and level of the descriptor for ``ipa``, at ``target`` or where the tables end."""
        level = self._start
        place = self._root + (ipa >> shift(level)) * 8
        while level < target:
            descriptor = self._bus.read64(Pas.NS, place)
            if descriptor & DESC_TABLE != DESC_TABLE:
                if not create:
                    break
                table = self._memory.allocate()
                self._tables.append(table)
                self._bus.write64(Pas.NS, place, table | DESC_TABLE)
            else:
                table = descriptor & ADDR_MASK_48
            level += 1
            place = table + (ipa >> shift(level)) % ENTRIES * 8
        return place, level

    def release(self) -> None:
        """Give the tables back; the caller has invalidated what was cached of them."""
        for n in range(self._count):
            self._memory.free(self._root + n * GRANULE_SIZE)
        for table in self._tables:
            self._memory.free(table)
        self._tables.clear()
