"""The Host's physical memory: an allocator of granules over Non-secure DRAM, with an account of what is delegated.

Everything that is free is zero: memory is at power-on, the RMM wipes what it gives back, and the Host wipes what it
used itself when it frees it. So a granule can be given out without touching it.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from realmkit.arch.errors import InternalError, RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.vmsa import entry_size
from realmkit.host.rmi import RmiClient

BLOCK: Final = entry_size(2)
"""2 MB: the unit in which the allocator keeps its books, and the largest run that it finds again once freed."""
BLOCK_PAGES: Final = BLOCK // GRANULE_SIZE
_FULL: Final = (1 << BLOCK_PAGES) - 1
_SEARCHED: Final = 64
"""Blocks that are searched for a short run before a new one is opened."""
_ZERO_PAGE: Final = bytes(GRANULE_SIZE)


class OutOfMemoryError(RealmkitError):
    """The Host has no memory left for what was asked."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the Host has no {size:#x} bytes of memory left: choose a platform with more DRAM")


class GranuleAllocator:
    """Gives out granules from 2 MB blocks; a block that is free again can be given out whole.

    ``ranges`` are (base, size) of Non-secure memory that nothing else uses. Cost grows with what is in use.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = [(base, base + size) for base, size in ranges if size >= GRANULE_SIZE]
        self._range = 0
        self._next = self._ranges[0][0] if self._ranges else 0
        """First address of the present range that was never in the books."""
        self._partial: dict[int, int] = {}
        """Blocks with free granules that are not free as a whole: base to free granules, as bits."""
        self._blocks: dict[int, None] = {}
        """Blocks that are free as a whole, after use, in the order in which they became so."""
        self.total = sum((top - base) // GRANULE_SIZE for base, top in self._ranges)
        """Granules in all."""
        self.used = 0
        """Granules given out."""

    def allocate(self) -> int:
        """One granule; raises OutOfMemoryError when memory is used up."""
        if not self._partial:
            self._open_block(GRANULE_SIZE)
        base, free = next(iter(self._partial.items()))
        lowest = free & -free
        self._take(base, lowest)
        return base + (lowest.bit_length() - 1) * GRANULE_SIZE

    def contiguous(self, count: int, alignment: int = GRANULE_SIZE) -> int:
        """``count`` granules in a row, the first aligned to ``alignment`` bytes, a power of two."""
        size = count * GRANULE_SIZE
        if count > BLOCK_PAGES or alignment > BLOCK:
            return self._fresh_run(size, alignment)
        if count == BLOCK_PAGES:
            if not self._blocks:
                return self._fresh_run(size, BLOCK)
            self.used += count
            return self._blocks.popitem()[0]
        wanted, step = (1 << count) - 1, alignment // GRANULE_SIZE
        place = self._find(wanted, step, _SEARCHED)
        if place is None:
            try:
                self._open_block(size)
            except OutOfMemoryError:
                place = self._find(wanted, step, len(self._partial))
            else:
                place = self._find(wanted, step, len(self._partial), newest=True)
        if place is None:
            raise OutOfMemoryError(size)
        base, offset = place
        self._take(base, wanted << offset)
        return base + offset * GRANULE_SIZE

    def free(self, pa: int, count: int = 1) -> None:
        """Return ``count`` granules in a row of one block."""
        base = pa & -BLOCK
        self.free_bits(base, ((1 << count) - 1) << (pa - base) // GRANULE_SIZE)

    def free_bits(self, base: int, bits: int) -> None:
        """Return granules of the block at ``base``: bit n is the n-th."""
        if not bits:
            return
        free = self._partial.get(base, 0)
        if free & bits or bits > _FULL or base in self._blocks:
            raise InternalError(f"granules of the block at {base:#x} were freed twice")
        self.used -= bits.bit_count()
        if free | bits == _FULL:
            self._partial.pop(base, None)
            self._blocks[base] = None
        else:
            self._partial[base] = free | bits

    def _take(self, base: int, bits: int) -> None:
        left = self._partial[base] & ~bits
        if left:
            self._partial[base] = left
        else:
            del self._partial[base]
        self.used += bits.bit_count()

    def _find(self, wanted: int, step: int, blocks: int, *, newest: bool = False) -> tuple[int, int] | None:
        """A block and the offset in it where all bits of ``wanted`` are free."""
        books = reversed(self._partial.items()) if newest else iter(self._partial.items())
        last = BLOCK_PAGES - wanted.bit_length()
        for base, free in islice(books, blocks):
            if free.bit_count() >= wanted.bit_length():
                for offset in range(0, last + 1, step):
                    if free >> offset & wanted == wanted:
                        return base, offset
        return None

    def _open_block(self, size: int) -> None:
        """Put one more block, or what the Host has of it, into the books."""
        if self._blocks:
            self._partial[self._blocks.popitem()[0]] = _FULL
            return
        while self._range < len(self._ranges):
            top = self._ranges[self._range][1]
            if self._next < top:
                end = min((self._next & -BLOCK) + BLOCK, top)
                self._add(self._next, end)
                self._next = end
                if self._blocks:
                    self._partial[self._blocks.popitem()[0]] = _FULL
                return
            self._next_range()
        raise OutOfMemoryError(size)

    def _fresh_run(self, size: int, alignment: int) -> int:
        """A run of memory that was never used."""
        while self._range < len(self._ranges):
            top = self._ranges[self._range][1]
            base = (self._next + alignment - 1) & -alignment
            end = base + size
            if end <= top:
                self._add(self._next, base)
                self._next = min((end + BLOCK - 1) & -BLOCK, top)
                self._add(end, self._next)
                self.used += size // GRANULE_SIZE
                return base
            self._add(self._next, top)
            self._next_range()
        raise OutOfMemoryError(size)

    def _next_range(self) -> None:
        self._range += 1
        if self._range < len(self._ranges):
            self._next = self._ranges[self._range][0]

    def _add(self, low: int, high: int) -> None:
        """Granules of [low, high) become free; they were never used."""
        while low < high:
            base = low & -BLOCK
            end = min(base + BLOCK, high)
            count = (end - low) // GRANULE_SIZE
            self.used += count
            if count:
                self.free(low, count)
            low = end


class HostMemory:
    """Granules of the Host: Non-secure ones, and those that it has delegated to the Realm world."""

    def __init__(self, rmi: RmiClient, ranges: Iterable[tuple[int, int]]) -> None:
        self._rmi = rmi
        self._bus = rmi.port.bus
        self._allocator = GranuleAllocator(ranges)
        self.delegated: set[int] = set()
        """Granules that are not in the Non-secure PAS now."""
        self.not_scrubbed = 0
        """Granules that came back with contents."""

    @property
    def used(self) -> int:
        """Granules in use or reserved."""
        return self._allocator.used

    # ---- Non-secure granules ----

    def allocate(self) -> int:
        """A Non-secure granule, zeroed."""
        return self._allocator.allocate()

    def allocate_run(self, count: int, alignment: int) -> int:
        """``count`` Non-secure granules in a row, zeroed."""
        return self._allocator.contiguous(count, alignment)

    def reserve_block(self) -> int | None:
        """A Non-secure 2 MB block, zeroed, whose granules the caller uses one by one; None when memory gets scarce."""
        if 2 * (self._allocator.used + BLOCK_PAGES) > self._allocator.total:
            return None
        try:
            return self._allocator.contiguous(BLOCK_PAGES, BLOCK)
        except OutOfMemoryError:
            return None

    def free(self, pa: int) -> None:
        """Give a Non-secure granule back."""
        if self._bus.read(Pas.NS, pa, GRANULE_SIZE) != _ZERO_PAGE:
            self._bus.zero(Pas.NS, pa, GRANULE_SIZE)
        self._allocator.free(pa)

    def free_reserve(self, base: int, bits: int) -> None:
        """Give granules of a reserved block back that nobody has written: bit n is the n-th."""
        self._allocator.free_bits(base, bits)

    # ---- delegated granules ----

    def delegate(self, pa: int) -> int:
        """Delegate a granule that the caller owns; it is given back when the RMM refuses it."""
        try:
            self._rmi.granule_delegate(pa)
        except RealmkitError:
            self._allocator.free(pa)
            raise
        self.delegated.add(pa)
        return pa

    def allocate_delegated(self) -> int:
        """A new delegated granule."""
        return self.delegate(self._allocator.allocate())

    def allocate_delegated_run(self, count: int, alignment: int) -> int:
        """``count`` delegated granules in a row."""
        base = self._allocator.contiguous(count, alignment)
        for n in range(count):
            try:
                self.delegate(base + n * GRANULE_SIZE)
            except RealmkitError:
                for other in range(n):
                    self.undelegate(base + other * GRANULE_SIZE)
                for other in range(n + 1, count):
                    self._allocator.free(base + other * GRANULE_SIZE)
                raise
        return base

    def undelegate(self, pa: int) -> None:
        """Take a granule back into the Non-secure PAS, check that it came back clean, and free it."""
        self._rmi.granule_undelegate(pa)
        self.delegated.discard(pa)
        if self._bus.read(Pas.NS, pa, GRANULE_SIZE) != _ZERO_PAGE:
            self.not_scrubbed += 1
            self._bus.zero(Pas.NS, pa, GRANULE_SIZE)
        self._allocator.free(pa)
