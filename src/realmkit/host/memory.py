"""The Host's physical memory: an allocator of granules over Non-secure DRAM, with an account of what is delegated."""

from collections.abc import Iterable

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.host.rmi import RmiClient


class GranuleAllocator:
    """Gives out granules lowest address first; freed ones are used again, last freed first.

    ``ranges`` are (base, size) of Non-secure memory that nothing else uses.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = [(base, base + size) for base, size in ranges]
        self._free: list[int] = []
        self._next = self._ranges[0][0] if self._ranges else 0
        self._range = 0

    def allocate(self) -> int:
        """One granule; raises RealmkitError when memory is used up."""
        if self._free:
            return self._free.pop()
        return self.contiguous(1)

    def contiguous(self, count: int, alignment: int = GRANULE_SIZE) -> int:
        """``count`` granules in a row, the first aligned to ``alignment`` bytes."""
        size = count * GRANULE_SIZE
        while self._range < len(self._ranges):
            top = self._ranges[self._range][1]
            base = (self._next + alignment - 1) & ~(alignment - 1)
            if base + size <= top:
                self._free.extend(range(base - GRANULE_SIZE, self._next - GRANULE_SIZE, -GRANULE_SIZE))
                self._next = base + size
                return base
            self._free.extend(range(top - GRANULE_SIZE, self._next - GRANULE_SIZE, -GRANULE_SIZE))
            self._range += 1
            if self._range < len(self._ranges):
                self._next = self._ranges[self._range][0]
        raise RealmkitError(f"the Host has no {size:#x} bytes of memory left: choose a platform with more DRAM")

    def free(self, pa: int) -> None:
        """Return one granule."""
        self._free.append(pa)


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

    def allocate(self) -> int:
        """A Non-secure granule, zeroed."""
        pa = self._allocator.allocate()
        self._bus.zero(Pas.NS, pa, GRANULE_SIZE)
        return pa

    def free(self, pa: int) -> None:
        """Give a Non-secure granule back."""
        self._allocator.free(pa)

    def delegate(self, pa: int) -> int:
        """Delegate a granule that the caller owns."""
        self._rmi.granule_delegate(pa)
        self.delegated.add(pa)
        return pa

    def allocate_delegated(self) -> int:
        """A new delegated granule."""
        return self.delegate(self._allocator.allocate())

    def allocate_delegated_run(self, count: int, alignment: int) -> int:
        """``count`` delegated granules in a row."""
        base = self._allocator.contiguous(count, alignment)
        for pa in range(base, base + count * GRANULE_SIZE, GRANULE_SIZE):
            self.delegate(pa)
        return base

    def undelegate(self, pa: int) -> None:
        """Take a granule back into the Non-secure PAS, check that it came back clean, and free it."""
        self._rmi.granule_undelegate(pa)
        self.delegated.discard(pa)
        if any(self._bus.read(Pas.NS, pa, GRANULE_SIZE)):
            self.not_scrubbed += 1
        self._allocator.free(pa)
