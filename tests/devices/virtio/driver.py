"""A guest's virtio driver in Python: rings in a fake shared memory, registers through the device's own interface."""

import struct
from collections.abc import Sequence

from realmkit.devices.virtio import MemoryRefused, VirtioMmio, VirtioModel
from realmkit.devices.virtio.transport import (
    ACCESS_PLATFORM,
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    VERSION_1,
    Register,
)

BASE = 0x1_0000_0000
"""Where the fake guest shares memory."""
SIZE = 0x20_0000
NEXT, WRITE, INDIRECT = 1, 2, 4


class FakeMemory:
    """[BASE, BASE + SIZE) is shared, everything else is not."""

    def __init__(self) -> None:
        self.content = bytearray(SIZE)
        self.accesses = 0
        self.moved = 0

    def _offset(self, address: int, size: int, write: bool) -> int:
        assert 0 <= address <= address + size <= 1 << 64
        assert size > 0
        self.accesses += 1
        if not BASE <= address <= address + size <= BASE + SIZE:
            raise MemoryRefused(address, size, write)
        self.moved += size
        return address - BASE

    def read(self, address: int, size: int) -> bytes:
        offset = self._offset(address, size, False)
        return bytes(self.content[offset : offset + size])

    def write(self, address: int, data: bytes) -> None:
        offset = self._offset(address, len(data), True)
        self.content[offset : offset + len(data)] = data


class Ring:
    """The driver's side of one queue."""

    def __init__(self, memory: FakeMemory, base: int, size: int) -> None:
        self.memory, self.size = memory, size
        self.desc = base
        self.driver = base + 0x1000
        self.device = base + 0x2000
        self.buffers = base + 0x4000
        self.next_buffer = self.buffers
        self.free = list(range(size))
        self.available = 0
        self.seen = 0
        self.chains: dict[int, list[int]] = {}
        self.places: dict[int, list[tuple[int, int]]] = {}

    def place(self, size: int) -> int:
        """Room for a buffer; rooms come round, as few are in use at a time."""
        if self.next_buffer + size > self.buffers + 0x3_0000:
            self.next_buffer = self.buffers
        address = self.next_buffer
        self.next_buffer += -(-size // 16) * 16
        return address

    def describe(self, index: int, address: int, length: int, flags: int, following: int) -> None:
        self.memory.write(self.desc + 16 * index, struct.pack("<QIHH", address, length, flags, following))

    def offer(self, head: int) -> None:
        """Put a descriptor index into the available ring, as it is."""
        self.memory.write(self.driver + 4 + 2 * (self.available % self.size), struct.pack("<H", head))
        self.available = (self.available + 1) & 0xFFFF
        self.memory.write(self.driver + 2, struct.pack("<H", self.available))

    def add(self, readable: Sequence[bytes], writable: Sequence[int] = ()) -> int:
        """A chain with contents to read and sizes to write: its head."""
        parts: list[tuple[int, int, int]] = []
        for content in readable:
            address = self.place(len(content))
            if content:
                self.memory.write(address, content)
            parts.append((address, len(content), 0))
        parts += [(self.place(size), size, WRITE) for size in writable]
        indices = [self.free.pop(0) for _ in parts]
        for n, (address, length, flags) in enumerate(parts):
            last = n == len(parts) - 1
            self.describe(indices[n], address, length, flags | (0 if last else NEXT), 0 if last else indices[n + 1])
        self.chains[indices[0]] = indices
        self.places[indices[0]] = [(address, length) for address, length, flags in parts if flags]
        self.offer(indices[0])
        return indices[0]

    def interrupts(self, wanted: bool) -> None:
        self.memory.write(self.driver, struct.pack("<H", 0 if wanted else 1))

    def collect(self) -> list[tuple[int, int, bytes]]:
        """Chains that came back: head, length, contents of the writable part."""
        (index,) = struct.unpack("<H", self.memory.read(self.device + 2, 2))
        done = []
        while self.seen != index:
            entry = self.memory.read(self.device + 4 + 8 * (self.seen % self.size), 8)
            head, length = struct.unpack("<II", entry)
            self.seen = (self.seen + 1) & 0xFFFF
            self.free += self.chains.pop(head)
            content = b"".join(self.memory.read(address, size) for address, size in self.places.pop(head) if size)
            done.append((head, length, content))
        return done


class Driver:
    """A device with a driver that behaves, unless told otherwise."""

    def __init__(self, model: VirtioModel, *, access_platform: bool = True) -> None:
        self.memory = FakeMemory()
        self.levels: list[bool] = []
        self.reports: list[str] = []
        self.model = model
        self.device = VirtioMmio(
            "virtio-test",
            model,
            self.memory,
            self.levels.append,
            self.reports.append,
            access_platform=access_platform,
        )
        self.rings: list[Ring] = []

    def get(self, register: int) -> int:
        return self.device.read(register, 4)

    def set(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    @property
    def offered(self) -> int:
        value = 0
        for word in (0, 1):
            self.set(Register.DEVICE_FEATURES_SEL, word)
            value |= self.get(Register.DEVICE_FEATURES) << 32 * word
        return value

    def negotiate(self, features: int) -> bool:
        """Reset, then feature negotiation: whether the device took FEATURES_OK."""
        self.set(Register.STATUS, 0)
        self.set(Register.STATUS, ACKNOWLEDGE)
        self.set(Register.STATUS, ACKNOWLEDGE | DRIVER)
        for word in (0, 1):
            self.set(Register.DRIVER_FEATURES_SEL, word)
            self.set(Register.DRIVER_FEATURES, features >> 32 * word & 0xFFFF_FFFF)
        self.set(Register.STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        return bool(self.get(Register.STATUS) & FEATURES_OK)

    def set_up(self, index: int, size: int = 16) -> Ring:
        """Make a queue: its ring. The device says whether it is ready."""
        ring = Ring(self.memory, BASE + 0x4_0000 * index, size)
        self.set(Register.QUEUE_SEL, index)
        self.set(Register.QUEUE_NUM, size)
        for low, address in (
            (Register.QUEUE_DESC_LOW, ring.desc),
            (Register.QUEUE_DRIVER_LOW, ring.driver),
            (Register.QUEUE_DEVICE_LOW, ring.device),
        ):
            self.set(low, address & 0xFFFF_FFFF)
            self.set(low + 4, address >> 32)
        self.set(Register.QUEUE_READY, 1)
        return ring

    def start(self, features: int | None = None, size: int = 16) -> "Driver":
        """The whole way to DRIVER_OK with all features that are offered, or with those given and the standard ones."""
        wanted = self.offered if features is None else features | self.offered & (VERSION_1 | ACCESS_PLATFORM)
        assert self.negotiate(wanted)
        for address in range(BASE, BASE + SIZE, 0x4_0000):
            self.memory.write(address, bytes(0x4000))
        self.rings = [self.set_up(n, min(size, queue.maximum)) for n, queue in enumerate(self.device.queues)]
        self.set(Register.STATUS, self.get(Register.STATUS) | DRIVER_OK)
        return self

    def kick(self, index: int) -> None:
        self.set(Register.QUEUE_NOTIFY, index)

    def acknowledge(self) -> int:
        """The interrupt handler: what was pending."""
        pending = self.get(Register.INTERRUPT_STATUS)
        self.set(Register.INTERRUPT_ACK, pending)
        return pending

    def line(self) -> bool:
        return bool(self.levels) and self.levels[-1]
