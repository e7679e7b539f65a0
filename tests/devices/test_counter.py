"""Generic counter and the empty ECAM."""

import pytest

from realmkit.devices.counter import GenericCounter
from realmkit.devices.ecam import EmptyEcam
from tests.devices.kit import ManualClock


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [
        (0x000, 4, 0x1),
        (0x004, 4, 0x100),
        (0x008, 8, 0x12_3456_789A),
        (0x008, 4, 0x3456_789A),
        (0x00C, 4, 0x12),
        (0x00C, 8, 0),
        (0x020, 4, 100_000_000),
        (0x024, 4, 0),
        (0x020, 2, 0),
        (0xFF0, 4, 0),
    ],
)
def test_registers(offset: int, size: int, value: int) -> None:
    clock = ManualClock()
    clock.tick = 0x12_3456_789A
    assert GenericCounter(clock).read(offset, size) == value


def test_counter_can_be_neither_stopped_nor_set() -> None:
    clock = ManualClock()
    counter = GenericCounter(clock)
    counter.write(0x000, 4, 0)
    counter.write(0x008, 8, 77)
    clock.tick = 5
    assert (counter.read(0x000, 4), counter.read(0x008, 8)) == (1, 5)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_empty_ecam_reads_all_ones(size: int) -> None:
    ecam = EmptyEcam()
    ecam.write(0x1000, size, 0)
    assert ecam.read(0x1000, size) == (1 << 8 * size) - 1
