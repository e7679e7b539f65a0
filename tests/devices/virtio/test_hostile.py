"""Guests that write anything anywhere: devices stay sound, their work bounded, their errors their own."""

import struct
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from realmkit.devices.virtio import Block, Console, ConsolePort, Entropy, VirtioModel
from realmkit.devices.virtio.block import QUEUE_SIZE, SIZE_MAX
from realmkit.devices.virtio.console import MAX_INPUT, MAX_OUTPUT, TRANSMIT_QUEUE_SIZE
from realmkit.devices.virtio.transport import DEVICE_NEEDS_RESET, DRIVER_OK, Register
from tests.devices.virtio.driver import BASE, SIZE, Driver
from tests.devices.virtio.test_block import FakeDisk


def _ignore(data: bytes) -> None:
    """Output that nobody reads."""


MODELS: dict[str, Callable[[], VirtioModel]] = {
    "block": lambda: Block(FakeDisk(), "disk"),
    "read-only block": lambda: Block(FakeDisk(read_only=True), "disk"),
    "console": lambda: Console([ConsolePort(_ignore), ConsolePort(_ignore, "port")]),
    "entropy": lambda: Entropy(b"seed"),
}
WORK = max(QUEUE_SIZE * SIZE_MAX, TRANSMIT_QUEUE_SIZE * MAX_OUTPUT) + 0x1_0000
"""Bytes that one register access may move at most."""

_models = st.sampled_from(sorted(MODELS))
_offsets = st.one_of(st.sampled_from(list(Register)), st.integers(0, 0x1FF))
_sizes = st.sampled_from([1, 2, 4, 4, 4, 8])
_words = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 7, 8, 0xF, 0x10, 0xFFFF_FFFF, BASE & 0xFFFF_FFFF, 0x8000_0000]),
    st.integers(0, (1 << 64) - 1),
)
_addresses = st.one_of(
    st.integers(BASE, BASE + SIZE),
    st.sampled_from([0, 0x8000_0000, BASE + SIZE - 1, BASE - 1, (1 << 64) - 1, (1 << 64) - 16]),
)
_lengths = st.one_of(st.integers(0, 1024), st.sampled_from([SIZE_MAX, SIZE_MAX + 1, 1 << 20, 0xFFFF_FFFF]))
_indices = st.one_of(st.integers(0, 17), st.sampled_from([255, 0x7FFF, 0xFFFF]))
_requests = st.builds(
    lambda kind, sector, rest: struct.pack("<IIQ", kind, 0, sector) + rest,
    st.sampled_from([0, 1, 4, 8, 11]),
    st.sampled_from([0, 1, 255, 256, (1 << 64) - 1]),
    st.binary(max_size=16),
)
_messages = st.builds(
    lambda port, event, value: struct.pack("<IHH", port, event, value),
    st.integers(0, 3),
    st.integers(0, 8),
    st.integers(0, 2),
)


class HostileGuest(RuleBasedStateMachine):
    """Registers, rings and descriptors in any order; a correct driver now and then."""

    @initialize(model=_models, live=st.booleans())
    def set_up(self, model: str, live: bool) -> None:
        self.model = MODELS[model]()
        self.driver = Driver(self.model)
        if live:
            self.driver.start()

    def bounded(self, act: Callable[[], object]) -> None:
        memory = self.driver.memory
        memory.moved = memory.accesses = 0
        act()
        assert memory.moved <= WORK
        assert memory.accesses <= 6 * 128 * 16

    @rule(offset=_offsets, size=_sizes, value=_words)
    def write_register(self, offset: int, size: int, value: int) -> None:
        self.bounded(lambda: self.driver.device.write(offset, size, value & (1 << 8 * size) - 1))

    @rule(offset=_offsets, size=_sizes)
    def read_register(self, offset: int, size: int) -> None:
        assert 0 <= self.driver.device.read(offset, size) < 1 << 8 * size

    @rule()
    def restart(self) -> None:
        self.driver.start()

    @rule(
        queue=st.integers(0, 5),
        index=st.integers(0, 15),
        address=_addresses,
        length=_lengths,
        flags=st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4, 0xFFFF]),
        following=_indices,
    )
    def write_descriptor(self, queue: int, index: int, address: int, length: int, flags: int, following: int) -> None:
        if queue < len(self.driver.rings):
            self.driver.rings[queue].describe(index, address, length, flags, following)

    @rule(queue=st.integers(0, 5), head=_indices, content=st.one_of(_requests, _messages), kick=st.booleans())
    def offer(self, queue: int, head: int, content: bytes, kick: bool) -> None:
        if queue < len(self.driver.rings):
            ring = self.driver.rings[queue]
            self.driver.memory.write(ring.buffers, content)
            ring.offer(head)
            if kick:
                self.bounded(lambda: self.driver.kick(queue))

    @rule(queue=st.integers(0, 5), index=_indices)
    def move_index(self, queue: int, index: int) -> None:
        if queue < len(self.driver.rings):
            self.driver.memory.write(self.driver.rings[queue].driver + 2, struct.pack("<H", index))
            self.bounded(lambda: self.driver.kick(queue))

    @rule(port=st.integers(0, 1), data=st.binary(max_size=100))
    def feed(self, port: int, data: bytes) -> None:
        if isinstance(self.model, Console):
            console = self.model
            self.bounded(lambda: console.feed(port, data))

    @invariant()
    def stays_sound(self) -> None:
        device = self.driver.device
        assert self.driver.line() == bool(device.pending)
        if self.driver.reports and device.status & DRIVER_OK:
            stopped = [queue for queue in device.queues if queue.stopped]
            assert bool(stopped) == bool(device.status & DEVICE_NEEDS_RESET)
        if isinstance(self.model, Console):
            assert all(len(port.waiting) <= MAX_INPUT for port in self.model.ports)
            assert len(self.model._events) <= 256

    @invariant()
    def levels_alternate(self) -> None:
        levels = self.driver.levels
        assert levels == [n % 2 == 0 for n in range(len(levels))]


TestHostileGuest = HostileGuest.TestCase
TestHostileGuest.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=100, deadline=None)
@given(model=_models, table=st.binary(min_size=256, max_size=256), ring=st.binary(min_size=36, max_size=36))
def test_random_rings(model: str, table: bytes, ring: bytes) -> None:
    """Pure noise, with an available index that is possible."""
    driver = Driver(MODELS[model]()).start()
    for queue in driver.rings:
        driver.memory.write(queue.desc, table)
        driver.memory.write(queue.driver, ring[:2] + struct.pack("<H", ring[2] % 17) + ring[4:])
    for index in range(len(driver.rings)):
        driver.kick(index)
        driver.kick(index)
    assert len(driver.reports) <= len(driver.rings)


@settings(max_examples=60, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.booleans(), st.integers(0, 250), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=20
    )
)
def test_a_disk_holds_what_was_written(data: list[tuple[bool, int, int, int]]) -> None:
    """Any order of reads and writes, in any framing, against a plain model."""
    disk = FakeDisk()
    expected = bytearray(disk.content)
    driver = Driver(Block(disk, "disk")).start()
    ring = driver.rings[0]
    for turn, (write, sector, count, pieces) in enumerate(data):
        size, place = count * 512, slice(sector * 512, (sector + count) * 512)
        cuts = [size * n // pieces for n in range(pieces + 1)]
        lengths = [high - low for low, high in pairwise(cuts)]
        if write:
            content = bytes([turn + 1]) * size
            expected[place] = content
            header = struct.pack("<IIQ", 1, 0, sector)
            ring.add([header, *(content[low:high] for low, high in pairwise(cuts))], [1])
        else:
            ring.add([struct.pack("<IIQ", 0, 0, sector)], [*lengths, 1])
        driver.kick(0)
        ((_, _, result),) = ring.collect()
        assert result[-1] == 0
        if not write:
            assert result[:-1] == expected[place]
    assert disk.content == expected
    assert driver.reports == []
