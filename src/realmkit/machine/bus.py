"""The interconnect: one address space of RAM and devices behind the granule protection check.

:class:`Interconnect` is shared by the machine; each security state and each bus master gets a :class:`CheckedBus`.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_MASK, GRANULE_SHIFT, GRANULE_SIZE, REACHABLE, Pas, SecurityState
from realmkit.devices import MmioDevice
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.port import ExternalAbort, GranuleProtectionFault

REMEMBERED: Final = 1 << 16
"""Granules of one physical address space that the buses remember at most (256 MB); then they start again."""

_ZERO_GRANULE: Final = bytes(GRANULE_SIZE)
_DEVICE_SIZES: Final = frozenset({1, 2, 4, 8})
_PA_LIMIT: Final = 1 << 52
_Offsets = dict[int, int]
"""Granule number to its place in the memory's buffer."""


class MappedDevice(NamedTuple):
    """A device at its place in the physical address space."""

    base: int
    size: int
    pas: frozenset[Pas]
    device: MmioDevice


class DeviceMap:
    """Devices by physical address. A device answers only in the physical address spaces it is mapped in."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._devices: list[MappedDevice] = []

    def map(self, base: int, size: int, pas: frozenset[Pas], device: MmioDevice) -> None:
        """Place a device; raises RealmkitError when it overlaps another."""
        position = bisect_right(self._bases, base)
        before = self._devices[position - 1] if position else None
        after = self._devices[position] if position < len(self._devices) else None
        if (before and before.base + before.size > base) or (after and base + size > after.base):
            raise RealmkitError(f"a device at [{base:#x}, {base + size:#x}) overlaps another device")
        self._bases.insert(position, base)
        self._devices.insert(position, MappedDevice(base, size, pas, device))

    def find(self, pa: int, size: int) -> MappedDevice | None:
        """The device that holds all of [pa, pa + size)."""
        position = bisect_right(self._bases, pa) - 1
        if position < 0:
            return None
        found = self._devices[position]
        return found if pa + size <= found.base + found.size else None

    def __iter__(self) -> Iterator[MappedDevice]:
        return iter(self._devices)


class Interconnect:
    """Memory, devices and the check, joined; what the buses of a machine share.

    Remembers, per physical address space, the place in host memory of granules whose check has passed, until their
    granule protection information is invalidated: the same life as an entry of the check's own cache.
    """

    __slots__ = ("_remembered", "code_listeners", "devices", "gpc", "memory", "reads", "watched", "writes")

    def __init__(self, memory: PhysicalMemory, gpc: GranuleProtection, devices: DeviceMap | None = None) -> None:
        self.memory = memory
        self.gpc = gpc
        self.devices = DeviceMap() if devices is None else devices
        self.reads: tuple[_Offsets, ...] = tuple({} for _ in Pas)
        self.writes: tuple[_Offsets, ...] = tuple({} for _ in Pas)
        self._remembered = (*self.reads, *self.writes)
        self.watched: set[int] = set()
        self.code_listeners: list[Callable[[int], None]] = []
        """Called with the address of a granule that :meth:`watch_code` has marked when a bus writes to it."""
        gpc.listeners.append(self._forget)

    def bus(self, state: SecurityState) -> "CheckedBus":
        """A bus bound to a security state."""
        return CheckedBus(state, self)

    def watch_code(self, pa: int) -> None:
        """Report the next write of a bus to this granule, once: an engine holds translated code of it."""
        granule = pa >> GRANULE_SHIFT
        self.watched.add(granule)
        for offsets in self.writes:
            offsets.pop(granule, None)

    def remember(self, pas: Pas, pa: int, write: bool) -> int | None:
        """Check a granule and give its place in host memory for this and the next accesses; None where no RAM is.

        Raises GranuleProtectionFault when the check fails. A write to a watched granule is reported here, just before
        it happens: nothing runs in between.
        """
        fault = self.gpc.check(pas, pa)
        if fault is not None:
            raise GranuleProtectionFault(pas, pa, fault.gpi, write)
        offset = self.memory.granule_offset(pa)
        if offset is None:
            return None
        granule = pa >> GRANULE_SHIFT
        if write and granule in self.watched:
            self.watched.discard(granule)
            for listener in self.code_listeners:
                listener(granule << GRANULE_SHIFT)
        kept = (self.writes if write else self.reads)[pas]
        if len(kept) >= REMEMBERED:
            kept.clear()
        kept[granule] = offset
        return offset

    def _forget(self, pa: int, size: int) -> None:
        if size == GRANULE_SIZE:
            granule = pa >> GRANULE_SHIFT
            for offsets in self._remembered:
                if granule in offsets:
                    del offsets[granule]
        else:
            for offsets in self._remembered:
                offsets.clear()


class CheckedBus:
    """Physical memory as one security state may use it (:class:`realmkit.machine.port.Bus`)."""

    __slots__ = ("_buffer", "_interconnect", "_reachable", "_reads", "_words", "_writes", "state")

    def __init__(self, state: SecurityState, interconnect: Interconnect) -> None:
        self.state = state
        self._interconnect = interconnect
        self._buffer, self._words = interconnect.memory.buffer, interconnect.memory.words
        self._reachable = tuple(pas in REACHABLE[state] for pas in Pas)
        # A physical address space that this state cannot name has an empty dictionary for ever: accesses to it
        # leave the fast path and are refused there.
        self._reads = tuple(interconnect.reads[pas] if self._reachable[pas] else {} for pas in Pas)
        self._writes = tuple(interconnect.writes[pas] if self._reachable[pas] else {} for pas in Pas)

    def read64(self, pas: Pas, pa: int) -> int:
        """Read an aligned 64-bit word."""
        granule = self._reads[pas].get(pa >> 12)
        if granule is None or pa & 7:
            return self._read64(pas, pa)
        return self._words[granule + (pa & 0xFFF) >> 3]

    def write64(self, pas: Pas, pa: int, value: int) -> None:
        """Write an aligned 64-bit word."""
        granule = self._writes[pas].get(pa >> 12)
        if granule is None or pa & 7:
            self._write64(pas, pa, value)
        else:
            self._words[granule + (pa & 0xFFF) >> 3] = value

    def read(self, pas: Pas, pa: int, size: int) -> bytes:
        """Read bytes."""
        offset = pa & 0xFFF
        if 0 < size <= 4096 - offset:
            granule = self._reads[pas].get(pa >> 12)
            if granule is None:
                granule = self._granule(pas, pa, size, False)
            if granule is not None:
                start = granule + offset
                return self._buffer[start : start + size].tobytes()
        elif self._check(pas, pa, size, False):
            return self._interconnect.memory.read(pa, size)
        found = self._device(pas, pa, size, False)
        return found.device.read(pa - found.base, size).to_bytes(size, "little")

    def write(self, pas: Pas, pa: int, data: bytes) -> None:
        """Write bytes."""
        offset = pa & 0xFFF
        size = len(data)
        if 0 < size <= 4096 - offset:
            granule = self._writes[pas].get(pa >> 12)
            if granule is None:
                granule = self._granule(pas, pa, size, True)
            if granule is not None:
                start = granule + offset
                self._buffer[start : start + size] = data
                return
        elif self._check(pas, pa, size, True):
            self._interconnect.memory.write(pa, data)
            return
        found = self._device(pas, pa, size, True)
        found.device.write(pa - found.base, size, int.from_bytes(data, "little"))

    def zero(self, pas: Pas, pa: int, size: int) -> None:
        """Fill with zeros."""
        if size == 4096 and not pa & 0xFFF:
            granule = self._writes[pas].get(pa >> 12)
            if granule is None:
                granule = self._granule(pas, pa, size, True)
            if granule is not None:
                self._buffer[granule : granule + 4096] = _ZERO_GRANULE
                return
        elif self._check(pas, pa, size, True):
            self._interconnect.memory.zero(pa, size)
            return
        found = self._device(pas, pa, size, True)
        found.device.write(pa - found.base, size, 0)

    def _granule(self, pas: Pas, pa: int, size: int, write: bool) -> int | None:
        """Check an access inside one granule: the granule's place in memory, or None where a device may answer."""
        if not self._reachable[pas] or not 0 <= pa < _PA_LIMIT:
            self._admit(pas, pa, size, write)
        return self._interconnect.remember(pas, pa, write)

    def _check(self, pas: Pas, pa: int, size: int, write: bool) -> bool:
        """Check all granules of an access before any of it happens: whether RAM answers all of it."""
        self._admit(pas, pa, size, write)
        interconnect = self._interconnect
        for granule in range(pa & ~GRANULE_MASK, pa + max(size, 1), GRANULE_SIZE):
            interconnect.remember(pas, granule, write)
        region = interconnect.memory.region_at(pa)
        return region is not None and pa + size <= region.end

    def _admit(self, pas: Pas, pa: int, size: int, write: bool) -> None:
        """Refuse what hardware cannot express, and addresses outside every physical address space."""
        if not self._reachable[pas]:
            raise RealmkitError(
                f"software in the {self.state.name} state cannot name the {Pas(pas).name} physical address space"
            )
        if pa < 0 or size < 0 or pa + size > _PA_LIMIT:
            raise ExternalAbort(pas, pa, size, write)

    def _device(self, pas: Pas, pa: int, size: int, write: bool) -> MappedDevice:
        found = self._interconnect.devices.find(pa, size)
        if found is None or pas not in found.pas or size not in _DEVICE_SIZES or pa % size:
            raise ExternalAbort(pas, pa, size, write)
        return found

    def _read64(self, pas: Pas, pa: int) -> int:
        if pa & 7:
            raise RealmkitError(f"read64 needs an address aligned to 8 bytes, got {pa:#x}")
        return int.from_bytes(self.read(pas, pa, 8), "little")

    def _write64(self, pas: Pas, pa: int, value: int) -> None:
        if pa & 7:
            raise RealmkitError(f"write64 needs an address aligned to 8 bytes, got {pa:#x}")
        self.write(pas, pa, value.to_bytes(8, "little"))
