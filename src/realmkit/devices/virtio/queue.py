"""Split virtqueues, the device's side (virtio 1.2 section 2.7).

A device serves a queue in batches: :meth:`Virtqueue.begin`, any number of :meth:`Virtqueue.pop` and
:meth:`Virtqueue.push`, :meth:`Virtqueue.publish`. The guest does not run during a batch, so no descriptor may occur in
two places of it: that alone bounds a batch to as many descriptors as the queue has, whatever the rings say.
"""

import struct
from dataclasses import dataclass

from realmkit.devices.virtio.memory import SharedMemory

_DESCRIPTOR = struct.Struct("<QIHH")
_HEAD = struct.Struct("<HH")
_USED = struct.Struct("<II")
_INDEX = struct.Struct("<H")
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT = 1
_ADDRESS_LIMIT = 1 << 64
_MAX_CHAIN = (1 << 32) - 1
"""Bytes that one chain describes at most: the used ring has 32 bits for a length."""

Segment = tuple[int, int]
"""Guest address and length in bytes."""


class QueueError(Exception):
    """The guest broke the rules of a virtqueue or of the requests in it; the message names what."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A descriptor chain: what the device may read, then what it may write."""

    memory: SharedMemory
    head: int
    readable: tuple[Segment, ...]
    writable: tuple[Segment, ...]

    @property
    def readable_size(self) -> int:
        """Bytes that the device may read."""
        return sum(size for _, size in self.readable)

    @property
    def writable_size(self) -> int:
        """Bytes that the device may write."""
        return sum(size for _, size in self.writable)

    def read(self, limit: int) -> bytes:
        """The readable part, which must not be longer than ``limit`` bytes. Raises QueueError, MemoryRefused."""
        size = self.readable_size
        if size > limit:
            raise QueueError(f"a request has {size} bytes for the device to read, it takes {limit}")
        return b"".join([self.memory.read(address, length) for address, length in self.readable if length])

    def write(self, data: bytes, offset: int = 0) -> None:
        """Write into the writable part at ``offset``; data past its end is dropped. Raises MemoryRefused."""
        view, end, start = memoryview(data), offset + len(data), 0
        for address, length in self.writable:
            low, high = max(offset, start), min(end, start + length)
            if low < high:
                self.memory.write(address + low - start, bytes(view[low - offset : high - offset]))
            start += length


class Virtqueue:
    """One queue: its registers and its place in the rings.

    ``maximum`` is the largest size in descriptors that the device supports. ``desc``, ``driver`` and ``device`` are the
    guest addresses of the three areas, in the specification's words.
    """

    def __init__(self, memory: SharedMemory, maximum: int) -> None:
        self._memory = memory
        self.maximum = maximum
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset: not ready, nothing known."""
        self.size = self.maximum
        self.desc = self.driver = self.device = 0
        self.ready = False
        self.stopped = False
        """The guest broke the rules: nothing is served until the next reset."""
        self._next = 0
        self._end = 0
        self._used = 0
        self._published = 0
        self._flags = 0
        self._seen: set[int] = set()

    def enable(self) -> None:
        """Make the queue ready. Raises QueueError where size or addresses cannot be; it is not ready then."""
        size = self.size
        if not 0 < size <= self.maximum or size & (size - 1):
            raise QueueError(f"a queue of {size} descriptors: a power of two up to {self.maximum} is possible")
        areas = (
            ("descriptor table", self.desc, 16, 16 * size),
            ("driver area", self.driver, 2, 6 + 2 * size),
            ("device area", self.device, 4, 6 + 8 * size),
        )
        for name, address, alignment, length in areas:
            if address % alignment:
                raise QueueError(f"the {name} at {address:#x} is not aligned to {alignment} bytes")
            if address + length > _ADDRESS_LIMIT:
                raise QueueError(f"the {name} at {address:#x} ends after the last address")
        self._next = self._end = self._used = self._published = 0
        self.ready = True

    # ---- a batch ----

    def begin(self) -> None:
        """Look at what the driver made available."""
        self._seen.clear()
        self._flags, index = _HEAD.unpack(self._memory.read(self.driver, 4))
        count = (index - self._next) & 0xFFFF
        if count > self.size:
            raise QueueError(f"the available index went from {self._next} to {index} in a queue of {self.size}")
        self._end = index

    def pop(self) -> Chain | None:
        """The next chain of the batch, None at its end."""
        if self._next == self._end:
            return None
        slot = self._next % self.size
        (head,) = _INDEX.unpack(self._memory.read(self.driver + 4 + 2 * slot, 2))
        chain = self._walk(head)
        self._next = (self._next + 1) & 0xFFFF
        return chain

    def push(self, chain: Chain, written: int) -> None:
        """Give a chain back, ``written`` bytes of whose writable part are new."""
        slot = self._used % self.size
        self._memory.write(self.device + 4 + 8 * slot, _USED.pack(chain.head, written))
        self._used = (self._used + 1) & 0xFFFF

    def publish(self) -> bool:
        """Show the driver what was given back: whether it wants an interrupt for it."""
        if self._used == self._published:
            return False
        self._memory.write(self.device + 2, _INDEX.pack(self._used))
        self._published = self._used
        return not self._flags & _NO_INTERRUPT

    def _walk(self, head: int) -> Chain:
        readable: list[Segment] = []
        writable: list[Segment] = []
        total, index = 0, head
        while True:
            if index >= self.size:
                raise QueueError(f"descriptor {index} in a queue of {self.size}")
            if index in self._seen:
                raise QueueError(f"descriptor {index} is in use twice: a loop, or a chain offered again")
            self._seen.add(index)
            address, length, flags, following = _DESCRIPTOR.unpack(self._memory.read(self.desc + 16 * index, 16))
            if flags & _INDIRECT:
                raise QueueError(f"descriptor {index} is indirect, which was not negotiated")
            if address + length > _ADDRESS_LIMIT:
                raise QueueError(f"descriptor {index}: {length} bytes at {address:#x} end after the last address")
            total += length
            if total > _MAX_CHAIN:
                raise QueueError(f"the chain of descriptor {head} describes more than {_MAX_CHAIN} bytes")
            if flags & _WRITE:
                writable.append((address, length))
            elif writable:
                raise QueueError(f"descriptor {index} is for the device to read, after one for it to write")
            else:
                readable.append((address, length))
            if not flags & _NEXT:
                return Chain(self._memory, head, tuple(readable), tuple(writable))
            index = following
