"""PL011 UART."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.devices import ReadableDevice
from realmkit.devices.pl011 import Pl011

DR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44
RXFE, RXFF, TXFF, TXFE, BUSY = 1 << 4, 1 << 6, 1 << 5, 1 << 7, 1 << 3
RX, TX, RT = 1 << 4, 1 << 5, 1 << 6
FEN = 1 << 4


class Wire:
    """The other side of the UART and of its interrupt."""

    def __init__(self) -> None:
        self.sent = b""
        self.levels: list[bool] = []
        self.uart = Pl011(self._output, self.levels.append)

    def _output(self, data: bytes) -> None:
        self.sent += data

    def take_all(self) -> bytes:
        taken = bytearray()
        while not self.uart.read(FR, 4) & RXFE:
            taken.append(self.uart.read(DR, 4))
        return bytes(taken)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_transmits_at_once(size: int) -> None:
    """Without any set-up, as SBSA drivers do."""
    wire = Wire()
    for character in b"Realm\n":
        wire.uart.write(DR, size, character | 0x100 * (size > 1))
        assert wire.uart.read(FR, size) & (TXFF | TXFE | BUSY) == TXFE
    assert wire.sent == b"Realm\n"


@pytest.mark.parametrize("control", [0x000, 0x300, 0x201])
def test_disabled_transmitter_drops(control: int) -> None:
    wire = Wire()
    wire.uart.write(CR, 4, control)
    wire.uart.write(DR, 4, 0x41)
    assert wire.sent == b""
    assert wire.uart.read(RIS, 4) == 0


def test_receives_in_order_without_loss() -> None:
    wire = Wire()
    wire.uart.write(LCR_H, 4, FEN)
    text = bytes(range(100))
    wire.uart.feed(text[:60])
    wire.uart.feed(text[60:])
    assert wire.take_all() == text
    assert wire.uart.read(DR, 4) == 0


@pytest.mark.parametrize(
    ("fifo", "waiting", "flags"),
    [(False, 0, RXFE), (False, 1, RXFF), (False, 2, RXFF), (True, 1, 0), (True, 31, 0), (True, 32, RXFF)],
)
def test_receive_flags(fifo: bool, waiting: int, flags: int) -> None:
    wire = Wire()
    wire.uart.write(LCR_H, 4, FEN if fifo else 0)
    wire.uart.feed(bytes(waiting))
    assert wire.uart.read(FR, 4) & (RXFE | RXFF) == flags


def test_disabled_receiver_keeps_the_sender_waiting() -> None:
    wire = Wire()
    wire.uart.write(CR, 4, 0x101)
    wire.uart.feed(b"a")
    assert wire.uart.read(FR, 4) & RXFE
    assert wire.uart.read(DR, 4) == 0
    wire.uart.write(CR, 4, 0x301)
    assert wire.take_all() == b"a"


@pytest.mark.parametrize(
    ("level", "waiting", "raised"),
    [(0, 3, RT), (0, 4, RX), (1, 8, RX), (2, 15, RT), (2, 16, RX), (3, 24, RX), (4, 27, RT), (4, 28, RX), (7, 28, RX)],
)
def test_receive_interrupt_by_fifo_level(level: int, waiting: int, raised: int) -> None:
    wire = Wire()
    wire.uart.write(LCR_H, 4, FEN)
    wire.uart.write(IFLS, 4, level << 3)
    wire.uart.feed(bytes(waiting))
    assert wire.uart.read(RIS, 4) == raised


def test_receive_interrupt_without_fifo() -> None:
    wire = Wire()
    wire.uart.feed(b"ab")
    assert wire.uart.read(RIS, 4) == RX
    wire.uart.read(DR, 4)
    assert wire.uart.read(RIS, 4) == RX
    wire.uart.read(DR, 4)
    assert wire.uart.read(RIS, 4) == 0


def test_interrupt_line_follows_the_masked_status() -> None:
    wire = Wire()
    wire.uart.feed(b"a")
    assert wire.levels == []
    wire.uart.write(IMSC, 4, RX)
    assert wire.uart.read(MIS, 4) == RX
    wire.uart.write(ICR, 4, RX)
    assert wire.uart.read(MIS, 4) == 0
    wire.uart.feed(b"b")
    wire.take_all()
    assert wire.levels == [True, False, True, False]


def test_transmit_interrupt_follows_each_character() -> None:
    wire = Wire()
    wire.uart.write(IMSC, 4, TX)
    assert wire.levels == []
    wire.uart.write(DR, 4, 0x41)
    assert wire.uart.read(MIS, 4) == TX
    wire.uart.write(ICR, 4, TX)
    assert wire.levels == [True, False]


def test_loopback() -> None:
    wire = Wire()
    wire.uart.write(CR, 4, 0x381)
    wire.uart.write(DR, 4, 0x41)
    assert wire.sent == b""
    assert wire.take_all() == b"A"


@pytest.mark.parametrize(
    ("offset", "written", "read"),
    [
        (0x24, 0x1_2345, 0x2345),
        (0x28, 0xFF, 0x3F),
        (LCR_H, 0x170, 0x70),
        (CR, 0xFFFF_FFFF, 0xFF87),
        (IFLS, 0xFF, 0x3F),
        (IMSC, 0xFFFF_FFFF, 0x7FF),
        (0x48, 0xFF, 0x7),
        (0x04, 0xFF, 0),
        (FR, 0xFF, TXFE | RXFE),
        (RIS, 0xFF, 0),
        (0x80, 0xFF, 0),
    ],
    ids=lambda value: f"{value:#x}",
)
def test_register_bits(offset: int, written: int, read: int) -> None:
    wire = Wire()
    wire.uart.write(offset, 4, written)
    assert wire.uart.read(offset, 4) == read


def test_identification() -> None:
    uart = Wire().uart
    found = [uart.read(offset, 4) for offset in range(0xFE0, 0x1000, 4)]
    assert found == [0x11, 0x10, 0x34, 0x00, 0x0D, 0xF0, 0x05, 0xB1]


def test_reset_state() -> None:
    wire = Wire()
    wire.uart.write(IMSC, 4, RX)
    wire.uart.feed(b"a")
    wire.uart.reset()
    assert wire.levels == [True, False]
    assert [wire.uart.read(offset, 4) for offset in (CR, IFLS, IMSC, FR)] == [0x301, 0x12, 0, TXFE | RXFE]


Step = Callable[[Pl011, int, int], object]
_actions: list[Step] = [
    lambda uart, offset, value: uart.write(offset, 4, value),
    lambda uart, offset, value: uart.read(offset, 4),
    lambda uart, offset, value: uart.feed(bytes(value & 0x3F)),
]
_steps = st.tuples(st.sampled_from(_actions), st.integers(0, 0x4C), st.integers(0, 0xFFFF_FFFF))


@settings(max_examples=60)
@given(st.lists(_steps, max_size=40))
def test_line_is_the_masked_status_whatever_happens(steps: list[tuple[Step, int, int]]) -> None:
    wire = Wire()
    for step, offset, value in steps:
        step(wire.uart, offset, value)
        assert (wire.levels[-1:] == [True]) is bool(wire.uart.read(MIS, 4))
    assert all(now != then for now, then in zip(wire.levels, wire.levels[1:], strict=False))


@settings(max_examples=60)
@given(st.lists(_steps, max_size=40))
def test_shown_registers_are_what_reads_give_until_the_revision_changes(steps: list[tuple[Step, int, int]]) -> None:
    """A guest that sees the page of an unchanged revision reads what it would read of the device."""
    uart = Wire().uart
    shown = {uart.revision: uart.registers()}
    for step, offset, value in steps:
        step(uart, offset, value)
        page = uart.registers()
        assert shown.setdefault(uart.revision, page) == page
        if page is None:
            assert not uart.read(FR, 4) & RXFE
            continue
        assert len(page) == 0x1000
        assert isinstance(uart, ReadableDevice)
        for register in range(0, 0x1000, 4):
            assert int.from_bytes(page[register : register + 4], "little") == uart.read(register, 4)
