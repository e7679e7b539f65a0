"""Physical memory: sparse, one host mapping of all RAM, shared by every engine and every bus.

Nothing here checks who asks: :mod:`realmkit.machine.bus` does, and is what software is given.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_MASK, GRANULE_SIZE
from realmkit.machine.platform import AddressRange

_MAP_NORESERVE: Final[int] = getattr(mmap, "MAP_NORESERVE", 0x4000)
_DISCARD_FROM: Final = 1 << 20
"""Bytes from which zeroing gives host pages back instead of writing them."""


class UnbackedError(LookupError):
    """No memory answers at this physical address."""

    def __init__(self, pa: int) -> None:
        self.pa = pa
        super().__init__(f"no memory at physical address {pa:#x}")


@dataclass(frozen=True, slots=True, eq=False)
class MemoryRegion:
    """One range of RAM and the host memory behind it."""

    base: int
    size: int
    buffer: memoryview = field(repr=False)
    """The range as bytes."""
    host_address: int
    """Where the range lies in this process, for engines that map it directly."""
    host_offset: int
    """Where it begins in :attr:`PhysicalMemory.buffer`."""

    @property
    def end(self) -> int:
        """First physical address after the range."""
        return self.base + self.size


class PhysicalMemory:
    """RAM of a platform. Untouched memory reads as zero and costs nothing, however large the platform is.

    ``ranges`` are granule aligned and do not overlap. An access that is not inside one range raises
    :class:`UnbackedError`. ``buffer`` and ``words`` are all ranges one after the other, as bytes and as 64-bit words in
    the architecture's byte order (little-endian): buses go there with the :meth:`granule_offset` of checked granules.
    """

    def __init__(self, ranges: Iterable[AddressRange]) -> None:
        if sys.byteorder != "little":
            raise RealmkitError("realmkit needs a little-endian machine: simulated memory is shared with the engine")
        spans = tuple(ranges)
        for span in spans:
            if (span.base | span.size) & GRANULE_MASK or span.size <= 0:
                raise RealmkitError(f"memory range {span} is not a whole number of {GRANULE_SIZE}-byte granules")
        for lower, upper in pairwise(sorted(spans)):
            if lower.end > upper.base:
                raise RealmkitError(f"memory ranges overlap at {upper.base:#x}")
        self._backing = _reserve(sum(span.size for span in spans))
        self.buffer = memoryview(self._backing)
        self.words = self.buffer.cast("Q")
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._backing))
        regions, offset = [], 0
        for span in spans:
            part = self.buffer[offset : offset + span.size]
            regions.append(MemoryRegion(span.base, span.size, part, start + offset, offset))
            offset += span.size
        self.regions: tuple[MemoryRegion, ...] = tuple(regions)
        # DRAM comes first in a platform, the tables that every granule check begins with lie behind it.
        self._places = tuple((r.base, r.end, r.host_offset - r.base) for r in (*regions[-1:], *regions[:-1]))

    def region_at(self, pa: int) -> MemoryRegion | None:
        """The range that holds ``pa``, or None."""
        for region in self.regions:
            if region.base <= pa < region.base + region.size:
                return region
        return None

    def granule_offset(self, pa: int) -> int | None:
        """Where in ``buffer`` the granule begins that holds ``pa``, or None where there is no RAM."""
        for base, end, distance in self._places:
            if base <= pa < end:
                return (pa & ~GRANULE_MASK) + distance
        return None

    def granule_words(self, pa: int) -> "memoryview[int] | None":
        """The granule that holds ``pa`` as 512 words of host memory, or None where there is no RAM."""
        offset = self.granule_offset(pa)
        return None if offset is None else self.words[offset >> 3 : (offset + GRANULE_SIZE) >> 3]

    def read64(self, pa: int) -> int:
        """The aligned 64-bit word at ``pa``."""
        for base, end, distance in self._places:
            if base <= pa < end:
                return self.words[(pa + distance) >> 3]
        raise UnbackedError(pa)

    def write64(self, pa: int, value: int) -> None:
        """Write the aligned 64-bit word at ``pa``."""
        for base, end, distance in self._places:
            if base <= pa < end:
                self.words[(pa + distance) >> 3] = value
                return
        raise UnbackedError(pa)

    def read(self, pa: int, size: int) -> bytes:
        """``size`` bytes from ``pa``."""
        region = self._holding(pa, size)
        offset = pa - region.base
        return bytes(region.buffer[offset : offset + size])

    def write(self, pa: int, data: bytes) -> None:
        """Write bytes at ``pa``."""
        region = self._holding(pa, len(data))
        offset = pa - region.base
        region.buffer[offset : offset + len(data)] = data

    def zero(self, pa: int, size: int) -> None:
        """Fill ``size`` bytes from ``pa`` with zeros; large ranges cost as much as was ever touched in them."""
        region = self._holding(pa, size)
        offset = pa - region.base + region.host_offset
        if size >= _DISCARD_FROM and not (offset | size) & (mmap.PAGESIZE - 1):
            self._backing.madvise(mmap.MADV_DONTNEED, offset, size)
        else:
            self.buffer[offset : offset + size] = bytes(size)

    def _holding(self, pa: int, size: int) -> MemoryRegion:
        region = self.region_at(pa)
        if region is None or pa + size > region.base + region.size:
            raise UnbackedError(pa if region is None else region.end)
        return region


def _reserve(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    except (OSError, OverflowError, ValueError) as error:
        raise RealmkitError(
            f"cannot reserve {size:#x} bytes of address space for the platform's memory ({error}): choose a smaller "
            "platform or raise this process's address space limit"
        ) from error
