"""SP805 watchdog."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.devices.sp805 import Sp805
from tests.devices.kit import ManualClock

LOAD, VALUE, CONTROL, INTCLR, RIS, MIS, LOCK = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0xC00
INTEN, RESEN = 1, 2
HZ = TICKS_PER_SECOND // 100
CYCLE = 100


class Bench:
    """A watchdog with a count of 100 ticks."""

    def __init__(self, hz: int = HZ) -> None:
        self.clock = ManualClock()
        self.levels: list[bool] = []
        self.resets = 0
        self.dog = Sp805(self.clock, self.levels.append, self._reset, hz=hz)

    def _reset(self) -> None:
        self.resets += 1

    def start(self, load: int, control: int = INTEN | RESEN) -> None:
        self.dog.write(LOAD, 4, load)
        self.dog.write(CONTROL, 4, control)

    def at(self, tick: int) -> None:
        self.clock.tick = tick
        self.dog.update(tick)


def test_counts_down() -> None:
    bench = Bench()
    bench.start(10)
    assert bench.dog.read(VALUE, 4) == 10
    bench.at(CYCLE - 1)
    assert bench.dog.read(VALUE, 4) == 10
    bench.at(3 * CYCLE)
    assert bench.dog.read(VALUE, 4) == 7


def test_first_expiry_interrupts_and_second_resets() -> None:
    bench = Bench()
    bench.start(10)
    assert bench.dog.next_event() == 10 * CYCLE
    bench.at(10 * CYCLE - 1)
    assert bench.levels == []
    bench.at(10 * CYCLE)
    assert (bench.levels, bench.resets) == ([True], 0)
    assert (bench.dog.read(RIS, 4), bench.dog.read(MIS, 4)) == (1, 1)
    assert bench.dog.next_event() == 20 * CYCLE
    bench.at(20 * CYCLE)
    assert bench.resets == 1
    assert bench.dog.next_event() is None
    bench.at(90 * CYCLE)
    assert bench.resets == 1


def test_late_update_does_both() -> None:
    bench = Bench()
    bench.start(10)
    bench.at(1000 * CYCLE)
    assert (bench.levels, bench.resets) == ([True], 1)


def test_clearing_the_interrupt_starts_again() -> None:
    bench = Bench()
    bench.start(10)
    bench.at(12 * CYCLE)
    bench.dog.write(INTCLR, 4, 0)
    assert bench.levels == [True, False]
    assert bench.dog.read(VALUE, 4) == 10
    assert bench.dog.next_event() == 22 * CYCLE
    bench.at(22 * CYCLE)
    assert (bench.levels, bench.resets) == ([True, False, True], 0)


def test_without_reset_enable_it_only_interrupts() -> None:
    bench = Bench()
    bench.start(10, INTEN)
    bench.at(100 * CYCLE)
    assert (bench.levels, bench.resets) == ([True], 0)
    bench.at(103 * CYCLE)
    assert bench.dog.read(VALUE, 4) == 7
    bench.dog.write(CONTROL, 4, INTEN | RESEN)
    assert bench.resets == 0
    assert bench.dog.next_event() == 110 * CYCLE


def test_without_interrupt_enable_it_stands_still() -> None:
    bench = Bench()
    bench.start(10, 0)
    assert bench.dog.next_event() is None
    bench.at(100 * CYCLE)
    assert bench.dog.read(VALUE, 4) == 10
    assert bench.levels == []


def test_disabling_holds_the_count_and_enabling_reloads() -> None:
    bench = Bench()
    bench.start(10)
    bench.at(4 * CYCLE)
    bench.dog.write(CONTROL, 4, RESEN)
    bench.at(50 * CYCLE)
    assert bench.dog.read(VALUE, 4) == 6
    bench.dog.write(CONTROL, 4, INTEN)
    assert bench.dog.read(VALUE, 4) == 10


def test_disabling_masks_the_raised_interrupt() -> None:
    bench = Bench()
    bench.start(10)
    bench.at(10 * CYCLE)
    bench.dog.write(CONTROL, 4, 0)
    assert (bench.dog.read(RIS, 4), bench.dog.read(MIS, 4)) == (1, 0)
    bench.dog.write(INTCLR, 4, 0)
    assert bench.levels == [True, False]


def test_zero_load_interrupts_at_once() -> None:
    bench = Bench()
    bench.start(0, INTEN)
    assert bench.levels == [True]


def test_clock_of_a_pe_that_lags_behind() -> None:
    bench = Bench()
    bench.clock.tick = 1000
    bench.start(10)
    bench.clock.tick = 500
    assert bench.dog.read(VALUE, 4) == 10


def test_lock() -> None:
    bench = Bench()
    assert bench.dog.read(LOCK, 4) == 0
    bench.dog.write(LOCK, 4, 0)
    assert bench.dog.read(LOCK, 4) == 1
    bench.start(10)
    assert (bench.dog.read(LOAD, 4), bench.dog.read(CONTROL, 4)) == (0xFFFF_FFFF, 0)
    bench.dog.write(LOCK, 4, 0x1ACC_E551)
    bench.start(10)
    assert (bench.dog.read(LOAD, 4), bench.dog.read(CONTROL, 4)) == (10, 3)


def test_clock_that_does_not_divide_the_ticks() -> None:
    bench = Bench(hz=32_768)
    bench.start(32_768)
    assert bench.dog.next_event() == TICKS_PER_SECOND
    bench.at(TICKS_PER_SECOND // 2)
    assert bench.dog.read(VALUE, 4) == 16_384
    bench.dog.write(LOAD, 4, 1)
    assert bench.dog.next_event() == TICKS_PER_SECOND // 2 + 3052


def test_reset_state() -> None:
    bench = Bench()
    bench.start(1)
    bench.at(CYCLE)
    bench.dog.reset()
    assert bench.levels == [True, False]
    assert [bench.dog.read(r, 4) for r in (LOAD, VALUE, CONTROL, RIS, MIS, LOCK)] == [0xFFFF_FFFF] * 2 + [0] * 4
    assert bench.dog.next_event() is None


def test_identification() -> None:
    dog = Bench().dog
    found = [dog.read(offset, 4) for offset in range(0xFE0, 0x1000, 4)]
    assert found == [0x05, 0x18, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


@pytest.mark.parametrize("size", [1, 2, 8])
def test_registers_are_words(size: int) -> None:
    bench = Bench()
    bench.dog.write(CONTROL, size, INTEN)
    assert bench.dog.read(CONTROL, 4) == 0
    assert bench.dog.read(LOAD, size) == 0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([LOAD, CONTROL, INTCLR, LOCK, VALUE]), st.integers(0, 20), st.integers(0, 3000)),
        max_size=25,
    )
)
def test_any_program_is_the_same_with_and_without_frequent_updates(steps: list[tuple[int, int, int]]) -> None:
    lazy, eager = Bench(), Bench()
    tick = 0
    for offset, value, wait in steps:
        for bench in (lazy, eager):
            bench.clock.tick = tick
            bench.dog.write(offset, 4, value)
        for moment in range(tick, tick + wait, 250):
            eager.at(moment)
        tick += wait
        for bench in (lazy, eager):
            bench.at(tick)
            assert bench.dog.next_event() is None or bench.dog.next_event() > tick  # type: ignore[operator]
        assert [lazy.dog.read(r, 4) for r in (VALUE, RIS)] == [eager.dog.read(r, 4) for r in (VALUE, RIS)]
        assert (lazy.levels, lazy.resets) == (eager.levels, eager.resets)
