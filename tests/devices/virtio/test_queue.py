"""Split virtqueues against rings that break the rules."""

import struct
from collections.abc import Callable

import pytest

from realmkit.devices.virtio import Entropy
from realmkit.devices.virtio.transport import DEVICE_NEEDS_RESET, Register
from tests.devices.virtio.driver import BASE, INDIRECT, NEXT, WRITE, Driver, Ring

ROOM = BASE + 0x8000


def _self_loop(ring: Ring) -> None:
    ring.describe(0, ROOM, 8, WRITE | NEXT, 0)
    ring.offer(0)


def _long_loop(ring: Ring) -> None:
    for n in range(ring.size):
        ring.describe(n, ROOM, 8, WRITE | NEXT, (n + 1) % ring.size)
    ring.offer(0)


def _offered_twice(ring: Ring) -> None:
    ring.describe(0, ROOM, 8, WRITE, 0)
    ring.offer(0)
    ring.offer(0)


def _shared_tail(ring: Ring) -> None:
    ring.describe(0, ROOM, 8, WRITE | NEXT, 2)
    ring.describe(1, ROOM, 8, WRITE | NEXT, 2)
    ring.describe(2, ROOM, 8, WRITE, 0)
    ring.offer(0)
    ring.offer(1)


def _head_outside(ring: Ring) -> None:
    ring.offer(ring.size)


def _next_outside(ring: Ring) -> None:
    ring.describe(0, ROOM, 8, WRITE | NEXT, 0xFFFF)
    ring.offer(0)


def _too_many(ring: Ring) -> None:
    ring.memory.write(ring.driver + 2, struct.pack("<H", ring.size + 1))


def _backwards(ring: Ring) -> None:
    ring.memory.write(ring.driver + 2, struct.pack("<H", 0xFFFF))


def _readable_after_writable(ring: Ring) -> None:
    ring.describe(0, ROOM, 8, WRITE | NEXT, 1)
    ring.describe(1, ROOM, 8, 0, 0)
    ring.offer(0)


def _indirect(ring: Ring) -> None:
    ring.describe(0, ROOM, 16, INDIRECT, 0)
    ring.offer(0)


def _wraps(ring: Ring) -> None:
    ring.describe(0, (1 << 64) - 8, 16, WRITE, 0)
    ring.offer(0)


def _over_4_gb(ring: Ring) -> None:
    ring.describe(0, ROOM, 0xFFFF_FFFF, WRITE | NEXT, 1)
    ring.describe(1, ROOM, 1, WRITE, 0)
    ring.offer(0)


@pytest.mark.parametrize(
    ("break_ring", "text"),
    [
        (_self_loop, "descriptor 0 is in use twice"),
        (_long_loop, "descriptor 0 is in use twice"),
        (_offered_twice, "descriptor 0 is in use twice"),
        (_shared_tail, "descriptor 2 is in use twice"),
        (_head_outside, "descriptor 16 in a queue of 16"),
        (_next_outside, "descriptor 65535 in a queue of 16"),
        (_too_many, "the available index went from 0 to 17"),
        (_backwards, "the available index went from 0 to 65535"),
        (_readable_after_writable, "descriptor 1 is for the device to read"),
        (_indirect, "descriptor 0 is indirect"),
        (_wraps, "end after the last address"),
        (_over_4_gb, "describes more than 4294967295 bytes"),
    ],
)
def test_broken_rings_stop_the_queue(break_ring: Callable[[Ring], None], text: str) -> None:
    driver = Driver(Entropy(b"")).start()
    break_ring(driver.rings[0])
    driver.memory.moved = 0
    driver.kick(0)
    assert len(driver.reports) == 1
    assert driver.reports[0].startswith("virtio-test: queue 0 stopped: ")
    assert text in driver.reports[0]
    assert driver.get(Register.STATUS) & DEVICE_NEEDS_RESET
    assert driver.memory.moved < 1024


def test_a_huge_buffer_costs_no_more_than_a_small_one() -> None:
    driver = Driver(Entropy(b"")).start()
    ring = driver.rings[0]
    ring.describe(0, ROOM, 0xFFFF_FFFF, WRITE, 0)
    ring.offer(0)
    driver.kick(0)
    assert driver.reports == []
    assert driver.memory.moved < 0x3_0000


def test_a_descriptor_can_come_again_in_the_next_batch() -> None:
    driver = Driver(Entropy(b"")).start()
    ring = driver.rings[0]
    ring.describe(0, ROOM, 8, WRITE, 0)
    for _ in range(40):
        ring.offer(0)
        driver.kick(0)
    assert driver.reports == []


def test_unknown_flags_and_empty_descriptors_do_no_harm() -> None:
    driver = Driver(Entropy(b"")).start()
    ring = driver.rings[0]
    ring.describe(0, 0, 0, WRITE | NEXT | 0x80, 1)
    ring.describe(1, ROOM, 8, WRITE | 0xFF00, 0)
    ring.offer(0)
    driver.kick(0)
    assert driver.reports == []
    assert driver.memory.read(ROOM, 8) != bytes(8)
