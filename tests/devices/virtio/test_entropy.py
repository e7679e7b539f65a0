"""Entropy device."""

from realmkit.devices.virtio import Entropy
from realmkit.devices.virtio.entropy import MAX_REQUEST
from tests.devices.virtio.driver import Driver


def draw(driver: Driver, *sizes: int) -> bytes:
    driver.rings[0].add([], sizes)
    driver.kick(0)
    ((_, length, content),) = driver.rings[0].collect()
    assert length == min(sum(sizes), MAX_REQUEST)
    return content


def test_same_seed_same_bytes() -> None:
    first, second, other = (Driver(Entropy(seed)).start() for seed in (b"a", b"a", b"b"))
    assert draw(first, 64) == draw(second, 64) != draw(other, 64)


def test_never_repeats() -> None:
    driver = Driver(Entropy(b"a")).start()
    seen = [draw(driver, 64) for _ in range(8)]
    driver.start()
    seen.append(draw(driver, 64))
    assert len(set(seen)) == 9


def test_fills_scattered_buffers() -> None:
    content = draw(Driver(Entropy(b"a")).start(), 1, 100, 3)
    assert len(content) == 104
    assert content.count(0) < 10


def test_long_requests_are_cut() -> None:
    content = draw(Driver(Entropy(b"a")).start(), MAX_REQUEST + 100)
    assert content[MAX_REQUEST:] == bytes(100)
    assert content[MAX_REQUEST - 64 : MAX_REQUEST] != bytes(64)


def test_readable_parts_are_refused() -> None:
    driver = Driver(Entropy(b"a")).start()
    driver.rings[0].add([b"mix this in"], [8])
    driver.kick(0)
    assert "for the device to read" in driver.reports[0]
