"""Block device."""

import struct

import pytest

from realmkit.devices.virtio import Block
from realmkit.devices.virtio.block import (
    FEATURE_FLUSH,
    FEATURE_RO,
    FEATURE_SEG_MAX,
    FEATURE_SIZE_MAX,
    QUEUE_SIZE,
    SECTOR,
    SEG_MAX,
    SIZE_MAX,
    STATUS_IOERR,
    STATUS_OK,
    STATUS_UNSUPP,
    TYPE_FLUSH,
    TYPE_GET_ID,
    TYPE_IN,
    TYPE_OUT,
)
from realmkit.devices.virtio.transport import Register
from tests.devices.virtio.driver import Driver

SECTORS = 256
DISCARD = 11


class FakeDisk:
    """A disk in memory that notes what is asked of it."""

    def __init__(self, read_only: bool = False) -> None:
        self.read_only = read_only
        self.content = bytearray(b"".join(bytes([n % 251]) * SECTOR for n in range(SECTORS)))
        self.size = len(self.content)
        self.calls: list[str] = []
        self.failing = False

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.failing:
            raise OSError(5, "I/O error")

    def read(self, offset: int, size: int) -> bytes:
        self._note("read")
        assert 0 <= offset <= offset + size <= self.size
        return bytes(self.content[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._note("write")
        assert 0 <= offset <= offset + len(data) <= self.size
        self.content[offset : offset + len(data)] = data

    def flush(self) -> None:
        self._note("flush")


class Bench:
    def __init__(self, *, read_only: bool = False, features: int | None = None, size: int = 16) -> None:
        self.disk = FakeDisk(read_only)
        self.driver = Driver(Block(self.disk, "realmkit-disk0")).start(features, size)

    def request(self, kind: int, sector: int, data: bytes = b"", room: int = 0) -> tuple[int, bytes, int]:
        """Status, data read, used length."""
        header = struct.pack("<IIQ", kind, 0, sector)
        ring = self.driver.rings[0]
        ring.add([header, data] if data else [header], [room, 1] if room else [1])
        self.driver.kick(0)
        assert self.driver.reports == []
        ((_, length, content),) = ring.collect()
        return content[-1], content[:-1], length


def test_configuration() -> None:
    bench = Bench()
    assert bench.driver.device.read(Register.CONFIG, 8) == SECTORS
    assert bench.driver.get(Register.CONFIG + 4) == 0
    assert bench.driver.get(Register.CONFIG + 8) == SIZE_MAX
    assert bench.driver.get(Register.CONFIG + 12) == SEG_MAX
    assert bench.driver.device.read(Register.CONFIG + 1, 1) == SECTORS >> 8
    assert bench.driver.get(Register.CONFIG + 0x80) == 0
    assert bench.driver.offered & 0xFF_FFFF == FEATURE_SIZE_MAX | FEATURE_SEG_MAX | FEATURE_FLUSH
    assert Bench(read_only=True).driver.offered & FEATURE_RO


def test_reads() -> None:
    bench = Bench()
    assert bench.request(TYPE_IN, 3, room=2 * SECTOR) == (
        STATUS_OK,
        bytes([3]) * SECTOR + bytes([4]) * SECTOR,
        2 * SECTOR + 1,
    )


def test_writes_are_read_back() -> None:
    bench = Bench()
    data = bytes(range(256)) * 4
    assert bench.request(TYPE_OUT, SECTORS - 2, data) == (STATUS_OK, b"", 1)
    assert bench.request(TYPE_IN, SECTORS - 2, room=1024)[1] == data
    assert bench.disk.content[-1024:] == data


def test_framing_is_free() -> None:
    """Header and data in pieces, data and status in one buffer."""
    bench = Bench()
    ring = bench.driver.rings[0]
    header = struct.pack("<IIQ", TYPE_OUT, 0, 7)
    ring.add([header[:5], header[5:] + b"a" * 100, b"b" * 412], [1])
    ring.add([struct.pack("<IIQ", TYPE_IN, 0, 7)], [100, SECTOR + 1 - 100])
    bench.driver.kick(0)
    first, second = ring.collect()
    assert first[2] == bytes([STATUS_OK])
    assert second[1:] == (SECTOR + 1, b"a" * 100 + b"b" * 412 + bytes([STATUS_OK]))


@pytest.mark.parametrize(
    ("kind", "sector", "size"),
    [
        (kind, sector, size)
        for kind in (TYPE_IN, TYPE_OUT)
        for sector, size in [
            (SECTORS, SECTOR),
            (SECTORS - 1, 2 * SECTOR),
            ((1 << 64) - 1, SECTOR),
            (1 << 55, SECTOR),
            (0, 100),
            (0, SECTOR + 1),
        ]
    ],
)
def test_what_is_not_on_the_disk_fails(kind: int, sector: int, size: int) -> None:
    bench = Bench()
    before = bytes(bench.disk.content)
    if kind == TYPE_IN:
        status, content, _ = bench.request(kind, sector, room=size)
        assert content == bytes(size)
    else:
        status, _, _ = bench.request(kind, sector, b"x" * size)
    assert status == STATUS_IOERR
    assert bench.disk.calls == []
    assert bench.disk.content == before


def test_a_read_only_disk_is_not_written() -> None:
    bench = Bench(read_only=True)
    assert bench.request(TYPE_OUT, 0, bytes(SECTOR))[0] == STATUS_IOERR
    assert bench.disk.calls == []
    assert bench.request(TYPE_IN, 1, room=SECTOR)[1] == bytes([1]) * SECTOR


def test_flush() -> None:
    bench = Bench()
    bench.request(TYPE_OUT, 0, bytes(SECTOR))
    assert bench.disk.calls == ["write"]
    assert bench.request(TYPE_FLUSH, 0)[0] == STATUS_OK
    assert bench.disk.calls == ["write", "flush"]


def test_without_flush_each_write_is_durable() -> None:
    bench = Bench(features=0)
    bench.request(TYPE_OUT, 0, bytes(SECTOR))
    assert bench.disk.calls == ["write", "flush"]


def test_identifier() -> None:
    bench = Bench()
    status, content, length = bench.request(TYPE_GET_ID, 0, room=20)
    assert (status, content, length) == (STATUS_OK, b"realmkit-disk0".ljust(20, b"\0"), 21)
    assert bench.request(TYPE_GET_ID, 0, room=4)[1] == b"real"
    assert bench.request(TYPE_GET_ID, 0, room=40)[1].rstrip(b"\0") == b"realmkit-disk0"


@pytest.mark.parametrize("kind", [2, 3, DISCARD, 13, 0xFFFF_FFFF])
def test_other_requests_are_unsupported(kind: int) -> None:
    assert Bench().request(kind, 0, b"x" * 16)[0] == STATUS_UNSUPP


@pytest.mark.parametrize("kind", [TYPE_IN, TYPE_OUT, TYPE_FLUSH])
def test_errors_of_the_backend_are_statuses(kind: int) -> None:
    bench = Bench()
    bench.disk.failing = True
    data = bytes(SECTOR) if kind == TYPE_OUT else b""
    status, _, _ = bench.request(kind, 0, data, SECTOR if kind == TYPE_IN else 0)
    assert status == STATUS_IOERR


def test_no_place_for_the_status() -> None:
    bench = Bench()
    bench.driver.rings[0].add([struct.pack("<IIQ", TYPE_FLUSH, 0, 0)])
    bench.driver.kick(0)
    assert "no place for its status" in bench.driver.reports[0]
    assert bench.disk.calls == []


def test_short_header() -> None:
    bench = Bench()
    bench.driver.rings[0].add([b"short"], [1])
    bench.driver.kick(0)
    ((_, _, content),) = bench.driver.rings[0].collect()
    assert content == bytes([STATUS_IOERR])


def test_the_largest_request() -> None:
    """As many segments as are announced, contents in order."""
    bench = Bench(size=QUEUE_SIZE)
    ring = bench.driver.rings[0]
    ring.add([struct.pack("<IIQ", TYPE_IN, 0, 0)], [SECTOR] * SEG_MAX + [1])
    bench.driver.kick(0)
    ((_, _, content),) = ring.collect()
    assert content == bytes(bench.disk.content[: SEG_MAX * SECTOR]) + b"\0"


def test_segments_over_the_limit_fail_before_anything_moves() -> None:
    bench = Bench()
    bench.driver.memory.moved = 0
    assert bench.request(TYPE_OUT, 0, bytes(SIZE_MAX + SECTOR))[0] == STATUS_IOERR
    assert bench.disk.calls == []


def test_a_write_from_memory_that_is_not_shared_leaves_the_disk() -> None:
    bench = Bench()
    ring = bench.driver.rings[0]
    head = ring.add([struct.pack("<IIQ", TYPE_OUT, 0, 0), bytes(SECTOR)], [1])
    second = ring.chains[head][1]
    ring.describe(second, 0x8000_0000, SECTOR, 1, ring.chains[head][2])
    bench.driver.kick(0)
    assert "read of 512 bytes at guest address 0x80000000" in bench.driver.reports[0]
    assert bench.disk.calls == []
