"""MMIO transport: identification, negotiation, life of a device, interrupts."""

import pytest

from realmkit.devices.virtio import Entropy
from realmkit.devices.virtio.transport import (
    ACCESS_PLATFORM,
    ACKNOWLEDGE,
    DEVICE_NEEDS_RESET,
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    INTERRUPT_CONFIG,
    INTERRUPT_USED,
    VERSION_1,
    Register,
)
from tests.devices.virtio.driver import BASE, Driver


def rng(**options: bool) -> Driver:
    return Driver(Entropy(b"seed"), **options)


def test_identifies_itself() -> None:
    driver = rng()
    assert driver.get(Register.MAGIC_VALUE).to_bytes(4, "little") == b"virt"
    assert driver.get(Register.VERSION) == 2
    assert driver.get(Register.DEVICE_ID) == 4
    assert driver.get(Register.STATUS) == 0
    assert driver.get(Register.CONFIG_GENERATION) == 0
    assert driver.levels == []


def test_offers_version_1_and_access_platform() -> None:
    assert rng().offered == VERSION_1 | ACCESS_PLATFORM
    assert rng(access_platform=False).offered == VERSION_1


def test_words_without_features_read_as_zero() -> None:
    driver = rng()
    driver.set(Register.DEVICE_FEATURES_SEL, 2)
    assert driver.get(Register.DEVICE_FEATURES) == 0


@pytest.mark.parametrize(
    ("features", "accepted"),
    [
        (VERSION_1 | ACCESS_PLATFORM, True),
        (VERSION_1, False),
        (ACCESS_PLATFORM, False),
        (0, False),
        (VERSION_1 | ACCESS_PLATFORM | 1, False),
        (VERSION_1 | ACCESS_PLATFORM | 1 << 28, False),
        (VERSION_1 | ACCESS_PLATFORM | 1 << 34, False),
    ],
)
def test_features_ok_only_for_what_is_offered_and_needed(features: int, accepted: bool) -> None:
    driver = rng()
    assert driver.negotiate(features) is accepted
    driver.set(Register.STATUS, driver.get(Register.STATUS) | DRIVER_OK)
    assert bool(driver.get(Register.STATUS) & DRIVER_OK) is accepted


def test_features_are_fixed_by_features_ok() -> None:
    driver = rng().start()
    driver.set(Register.DRIVER_FEATURES_SEL, 1)
    driver.set(Register.DRIVER_FEATURES, 0)
    driver.set(Register.STATUS, driver.get(Register.STATUS) | FEATURES_OK)
    assert driver.model.negotiated == VERSION_1 | ACCESS_PLATFORM


def test_status_bits_stay_until_reset() -> None:
    driver = rng()
    driver.set(Register.STATUS, ACKNOWLEDGE)
    driver.set(Register.STATUS, DRIVER | FAILED | DEVICE_NEEDS_RESET)
    assert driver.get(Register.STATUS) == ACKNOWLEDGE | DRIVER | FAILED
    driver.set(Register.STATUS, 0)
    assert driver.get(Register.STATUS) == 0


def test_queue_registers() -> None:
    driver = rng()
    assert driver.negotiate(driver.offered)
    driver.set(Register.QUEUE_SEL, 0)
    assert driver.get(Register.QUEUE_NUM_MAX) == 64
    assert driver.get(Register.QUEUE_READY) == 0
    driver.set_up(0)
    assert driver.get(Register.QUEUE_READY) == 1
    driver.set(Register.QUEUE_READY, 0)
    assert driver.get(Register.QUEUE_READY) == 0


@pytest.mark.parametrize("index", [1, 2, 0xFFFF, 0xFFFF_FFFF])
def test_queues_that_do_not_exist(index: int) -> None:
    driver = rng().start()
    driver.set(Register.QUEUE_SEL, index)
    assert driver.get(Register.QUEUE_NUM_MAX) == 0
    driver.set(Register.QUEUE_NUM, 8)
    driver.set(Register.QUEUE_READY, 1)
    assert driver.get(Register.QUEUE_READY) == 0
    driver.kick(index)
    assert driver.reports == []


def test_a_ready_queue_cannot_be_moved() -> None:
    driver = rng().start()
    queue = driver.device.queues[0]
    before = queue.desc, queue.driver, queue.device, queue.size
    for register in (
        Register.QUEUE_DESC_LOW,
        Register.QUEUE_DRIVER_HIGH,
        Register.QUEUE_DEVICE_LOW,
        Register.QUEUE_NUM,
    ):
        driver.set(register, 8)
    assert (queue.desc, queue.driver, queue.device, queue.size) == before


def test_no_queue_before_features_ok() -> None:
    driver = rng()
    driver.set_up(0)
    assert driver.get(Register.QUEUE_READY) == 0


@pytest.mark.parametrize("size", [0, 3, 24, 65, 128, 1 << 16, 0xFFFF_FFFF])
def test_queue_sizes_that_cannot_be(size: int) -> None:
    driver = rng()
    assert driver.negotiate(driver.offered)
    driver.set(Register.QUEUE_SEL, 0)
    driver.set(Register.QUEUE_NUM, size)
    driver.set(Register.QUEUE_READY, 1)
    assert driver.get(Register.QUEUE_READY) == 0
    assert driver.get(Register.STATUS) & DEVICE_NEEDS_RESET
    assert "queue 0" in driver.reports[0]
    assert f"a queue of {size} descriptors" in driver.reports[0]


@pytest.mark.parametrize(
    ("register", "low", "high", "text"),
    [
        (Register.QUEUE_DESC_LOW, 0x8, 0, "not aligned to 16"),
        (Register.QUEUE_DRIVER_LOW, 0x1, 0, "not aligned to 2"),
        (Register.QUEUE_DEVICE_LOW, 0x2, 0, "not aligned to 4"),
        (Register.QUEUE_DESC_LOW, 0xFFFF_FFF0, 0xFFFF_FFFF, "after the last address"),
        (Register.QUEUE_DRIVER_LOW, 0xFFFF_FFF0, 0xFFFF_FFFF, "after the last address"),
        (Register.QUEUE_DEVICE_LOW, 0xFFFF_FFF0, 0xFFFF_FFFF, "after the last address"),
    ],
)
def test_areas_that_cannot_be(register: int, low: int, high: int, text: str) -> None:
    driver = rng()
    assert driver.negotiate(driver.offered)
    driver.set(Register.QUEUE_SEL, 0)
    driver.set(register, low)
    driver.set(register + 4, high)
    driver.set(Register.QUEUE_READY, 1)
    assert driver.get(Register.QUEUE_READY) == 0
    assert text in driver.reports[0]


def test_nothing_is_served_before_driver_ok() -> None:
    driver = rng()
    assert driver.negotiate(driver.offered)
    ring = driver.set_up(0)
    ring.add([], [16])
    driver.kick(0)
    assert ring.collect() == []
    driver.set(Register.STATUS, driver.get(Register.STATUS) | DRIVER_OK)
    driver.kick(0)
    assert len(ring.collect()) == 1


def test_used_buffers_interrupt_until_acknowledged() -> None:
    driver = rng().start()
    driver.rings[0].add([], [16])
    driver.kick(0)
    assert driver.line()
    assert driver.acknowledge() == INTERRUPT_USED
    assert not driver.line()
    assert driver.acknowledge() == 0


def test_a_kick_without_buffers_does_not_interrupt() -> None:
    driver = rng().start()
    driver.kick(0)
    assert driver.levels == []


def test_interrupts_can_be_suppressed() -> None:
    driver = rng().start()
    ring = driver.rings[0]
    ring.interrupts(False)
    ring.add([], [16])
    driver.kick(0)
    assert not driver.line()
    assert len(ring.collect()) == 1
    ring.interrupts(True)
    ring.add([], [16])
    driver.kick(0)
    assert driver.line()


def test_reset_forgets_queues_and_interrupts() -> None:
    driver = rng().start()
    driver.rings[0].add([], [16])
    driver.kick(0)
    driver.set(Register.STATUS, 0)
    assert not driver.line()
    assert driver.get(Register.INTERRUPT_STATUS) == 0
    driver.set(Register.QUEUE_SEL, 0)
    assert driver.get(Register.QUEUE_READY) == 0
    driver.start()
    driver.rings[0].add([], [16])
    driver.kick(0)
    assert len(driver.rings[0].collect()) == 1


def test_rings_come_round() -> None:
    driver = rng().start(size=4)
    ring = driver.rings[0]
    for _ in range(0x1_0000 // 4 + 3):
        heads = [ring.add([], [8]) for _ in range(4)]
        driver.kick(0)
        assert [head for head, _, _ in ring.collect()] == heads
    assert driver.reports == []


def test_memory_that_is_not_shared_stops_the_queue_and_says_where() -> None:
    driver = rng().start()
    ring = driver.rings[0]
    good = ring.add([], [16])
    index = ring.free.pop(0)
    ring.describe(index, 0x8000_0000, 64, 2, 0)
    ring.offer(index)
    driver.kick(0)
    assert driver.reports == [
        "virtio-test: queue 0 stopped: write of 64 bytes at guest address 0x80000000, which the guest does not share"
    ]
    assert driver.get(Register.STATUS) & DEVICE_NEEDS_RESET
    assert driver.acknowledge() == INTERRUPT_USED | INTERRUPT_CONFIG
    assert [head for head, _, _ in ring.collect()] == [good]
    before = driver.memory.accesses
    driver.kick(0)
    driver.set(Register.QUEUE_SEL, 0)
    driver.set(Register.QUEUE_READY, 0)
    driver.set(Register.QUEUE_READY, 1)
    driver.kick(0)
    assert driver.memory.accesses == before
    assert len(driver.reports) == 1


def test_reset_heals_a_stopped_queue() -> None:
    driver = rng().start()
    driver.rings[0].offer(500)
    driver.kick(0)
    assert driver.reports
    driver.start()
    assert not driver.get(Register.STATUS) & DEVICE_NEEDS_RESET
    driver.rings[0].add([], [16])
    driver.kick(0)
    assert len(driver.rings[0].collect()) == 1


def test_rings_that_are_not_shared() -> None:
    driver = rng()
    assert driver.negotiate(driver.offered)
    driver.set(Register.QUEUE_SEL, 0)
    driver.set(Register.QUEUE_NUM, 8)
    driver.set(Register.QUEUE_DRIVER_LOW, 0x9000_0000)
    driver.set(Register.QUEUE_READY, 1)
    driver.set(Register.STATUS, driver.get(Register.STATUS) | DRIVER_OK)
    driver.kick(0)
    assert "read of 4 bytes at guest address 0x90000000" in driver.reports[0]


def test_only_words_reach_registers() -> None:
    driver = rng().start()
    for size in (1, 2, 8):
        assert driver.device.read(Register.MAGIC_VALUE, size) == 0
        driver.device.write(Register.STATUS, size, 0)
    assert driver.get(Register.STATUS) & DRIVER_OK
    assert driver.device.read(Register.MAGIC_VALUE + 2, 4) == 0


def test_no_shared_memory_regions() -> None:
    driver = rng()
    assert [driver.get(offset) for offset in (0xB0, 0xB4, 0xB8, 0xBC)] == [0xFFFF_FFFF] * 4


def test_base_is_what_the_tests_share() -> None:
    driver = rng()
    driver.memory.write(BASE, b"x")
    assert driver.memory.read(BASE, 1) == b"x"
