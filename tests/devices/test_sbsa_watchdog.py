"""SBSA generic watchdog."""

import pytest

from realmkit.devices.sbsa_watchdog import SbsaWatchdog
from tests.devices.kit import ManualClock

WCS, WOR, WOR_HIGH, WCV, WCV_HIGH, W_IIDR, WRR = 0x000, 0x008, 0x00C, 0x010, 0x014, 0xFCC, 0x000
EN, WS0, WS1 = 1, 2, 4


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.levels: list[bool] = []
        self.resets = 0
        self.dog = SbsaWatchdog(self.clock, self.levels.append, self._reset)

    def _reset(self) -> None:
        self.resets += 1

    def start(self, offset: int) -> None:
        self.dog.control.write(WOR, 8, offset)
        self.dog.control.write(WCS, 4, EN)

    def at(self, tick: int) -> None:
        self.clock.tick = tick
        self.dog.update(tick)

    def status(self) -> int:
        return self.dog.control.read(WCS, 4)


def test_two_stages() -> None:
    bench = Bench()
    bench.clock.tick = 50
    bench.start(1000)
    assert bench.dog.control.read(WCV, 8) == 1050
    assert bench.dog.next_event() == 1051
    bench.at(1050)
    assert (bench.status(), bench.levels) == (EN, [])
    bench.at(1051)
    assert (bench.status(), bench.levels, bench.resets) == (EN | WS0, [True], 0)
    second = bench.dog.next_event()
    assert second == 2052
    bench.at(second)
    assert (bench.status(), bench.resets) == (EN | WS0 | WS1, 1)
    assert bench.dog.next_event() is None
    bench.at(1_000_000)
    assert bench.resets == 1


def test_late_update_does_both_stages() -> None:
    bench = Bench()
    bench.start(1000)
    bench.at(1_000_000)
    assert (bench.status(), bench.levels, bench.resets) == (EN | WS0 | WS1, [True], 1)


@pytest.mark.parametrize("how", ["refresh", "status", "offset", "offset_high"])
def test_explicit_refresh(how: str) -> None:
    bench = Bench()
    bench.start(1000)
    bench.at(1500)
    match how:
        case "refresh":
            bench.dog.refresh.write(WRR, 4, 0x1234)
        case "status":
            bench.dog.control.write(WCS, 4, EN)
        case "offset":
            bench.dog.control.write(WOR, 4, 1000)
        case "offset_high":
            bench.dog.control.write(WOR_HIGH, 4, 0)
    assert (bench.status(), bench.levels) == (EN, [True, False])
    assert bench.dog.control.read(WCV, 8) == 2500


def test_refresh_that_comes_too_late_does_not_undo_the_reset() -> None:
    bench = Bench()
    bench.start(1000)
    bench.clock.tick = 5000
    bench.dog.refresh.write(WRR, 4, 0)
    assert bench.resets == 1


def test_compare_value_can_be_written() -> None:
    bench = Bench()
    bench.start(1000)
    bench.dog.control.write(WCV, 8, 0x1_0000_0005)
    assert bench.dog.next_event() == 0x1_0000_0006
    bench.dog.control.write(WCV, 4, 7)
    bench.dog.control.write(WCV_HIGH, 4, 0)
    assert bench.dog.next_event() == 8


def test_compare_value_is_written_at_once() -> None:
    """With only its low word written, this value would have expired."""
    bench = Bench()
    bench.start(0x1_0000_0005)
    bench.clock.tick = 0x1_0000_0003
    bench.dog.control.write(WCV, 8, 0x2_0000_0000)
    assert bench.dog.next_event() == 0x2_0000_0001
    assert bench.levels == []


def test_64_bit_access_to_a_32_bit_register_does_nothing() -> None:
    bench = Bench()
    bench.dog.control.write(WCS, 8, EN)
    assert bench.dog.control.read(WCS, 8) == 0
    assert bench.status() == 0


def test_disabled_watchdog_never_expires() -> None:
    bench = Bench()
    bench.start(10)
    bench.dog.control.write(WCS, 4, 0)
    assert bench.dog.next_event() is None
    bench.at(1000)
    assert (bench.status(), bench.levels) == (0, [])


def test_offset_has_48_bits() -> None:
    bench = Bench()
    bench.dog.control.write(WOR, 8, 0xFFFF_FFFF_FFFF_FFFF)
    assert bench.dog.control.read(WOR, 8) == 0xFFFF_FFFF_FFFF
    assert bench.dog.control.read(WOR_HIGH, 4) == 0xFFFF


def test_identification_in_both_frames() -> None:
    bench = Bench()
    assert bench.dog.control.read(W_IIDR, 4) == bench.dog.refresh.read(W_IIDR, 4) == 0x0001_043B


@pytest.mark.parametrize("size", [1, 2])
def test_registers_are_words_or_more(size: int) -> None:
    bench = Bench()
    bench.dog.control.write(WCS, size, EN)
    bench.dog.refresh.write(WRR, size, 1)
    assert bench.status() == 0
    assert bench.dog.control.read(W_IIDR, size) == 0
    assert bench.dog.refresh.read(W_IIDR, size) == 0


def test_unknown_registers() -> None:
    bench = Bench()
    bench.dog.control.write(0x100, 4, 0xFFFF_FFFF)
    bench.dog.refresh.write(0x008, 4, 0xFFFF_FFFF)
    assert bench.dog.control.read(0x100, 4) == 0
    assert bench.dog.control.read(WOR, 8) == 0


def test_reset_state() -> None:
    bench = Bench()
    bench.start(10)
    bench.at(11)
    bench.dog.reset()
    assert bench.levels == [True, False]
    assert (bench.status(), bench.dog.control.read(WOR, 8), bench.dog.control.read(WCV, 8)) == (0, 0, 0)
