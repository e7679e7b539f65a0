import ctypes
import resource

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.machine import platforms
from realmkit.machine.memory import PhysicalMemory, UnbackedError
from realmkit.machine.platform import AddressRange

BASE = 0x8000_0000
SIZE = 4 << 20


@pytest.fixture
def memory() -> PhysicalMemory:
    return PhysicalMemory([AddressRange(BASE, SIZE), AddressRange(0, 0x10000)])


def test_untouched_memory_is_zero(memory: PhysicalMemory) -> None:
    assert memory.read(BASE + 0x1234, 64) == bytes(64)


def test_bytes_and_words_are_the_same_memory_little_endian(memory: PhysicalMemory) -> None:
    memory.write(BASE + 8, bytes(range(1, 9)))
    assert memory.read64(BASE + 8) == 0x0807_0605_0403_0201
    memory.write64(BASE + 16, 0x1122_3344_5566_7788)
    assert memory.read(BASE + 16, 3) == b"\x88\x77\x66"


def test_regions_expose_the_memory_that_engines_map(memory: PhysicalMemory) -> None:
    region = memory.region_at(BASE + 0x1000)
    assert region is not None
    assert (region.base, region.size, region.end) == (BASE, SIZE, BASE + SIZE)
    memory.write(BASE + 0x1000, b"shared")
    assert ctypes.string_at(region.host_address + 0x1000, 6) == b"shared"
    assert bytes(region.buffer[0x1000:0x1006]) == b"shared"


def test_a_granule_is_512_words(memory: PhysicalMemory) -> None:
    window = memory.granule_words(BASE + 0x3FF8)
    assert window is not None
    assert len(window) == 512
    window[511] = 7
    assert memory.read64(BASE + 0x3FF8) == 7


@pytest.mark.parametrize("pa", [BASE - 1, BASE + SIZE, 0x10000, 1 << 60, -1])
def test_nothing_answers_outside_the_ranges(memory: PhysicalMemory, pa: int) -> None:
    assert memory.region_at(pa) is None
    assert memory.granule_words(pa) is None
    for access in (
        lambda: memory.read(pa, 1),
        lambda: memory.write(pa, b"x"),
        lambda: memory.zero(pa, 1),
        lambda: memory.read64(pa),
        lambda: memory.write64(pa, 0),
    ):
        with pytest.raises(UnbackedError):
            access()


def test_an_access_across_the_end_of_a_range_changes_nothing(memory: PhysicalMemory) -> None:
    with pytest.raises(UnbackedError, match=f"{BASE + SIZE:#x}"):
        memory.write(BASE + SIZE - 4, b"12345678")
    assert memory.read(BASE + SIZE - 4, 4) == bytes(4)


@pytest.mark.parametrize(("offset", "size"), [(1, 3), (0, 4096), (0x100000, 0x200000), (0x1001, 0x180000)])
def test_zero_clears_exactly_the_range(memory: PhysicalMemory, offset: int, size: int) -> None:
    memory.write(BASE, b"\xff" * SIZE)
    memory.zero(BASE + offset, size)
    assert memory.read(BASE, SIZE) == b"\xff" * offset + bytes(size) + b"\xff" * (SIZE - offset - size)


@pytest.mark.parametrize("span", [AddressRange(0x800, 0x1000), AddressRange(0, 0x800), AddressRange(0, 0)])
def test_ranges_are_whole_granules(span: AddressRange) -> None:
    with pytest.raises(RealmkitError, match="granules"):
        PhysicalMemory([span])


def test_ranges_do_not_overlap() -> None:
    with pytest.raises(RealmkitError, match="overlap"):
        PhysicalMemory([AddressRange(0, 0x2000), AddressRange(0x1000, 0x1000)])


def test_a_range_beyond_what_the_host_can_reserve_is_a_clear_error() -> None:
    with pytest.raises(RealmkitError, match="cannot reserve"):
        PhysicalMemory([AddressRange(0, 1 << 62)])


def test_a_terabyte_costs_nothing_until_touched() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = PhysicalMemory(platforms.fvp(platforms.TIB).ram())
    top = platforms.BANK1 + platforms.TIB - platforms.BANK0_MAX
    memory.write64(top - 8, 1)
    memory.zero(platforms.BANK1, platforms.TIB - platforms.BANK0_MAX)
    assert memory.read64(top - 8) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8192
