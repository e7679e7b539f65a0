"""Loads and stores to devices, which are done outside the engine: sizes, extension, pairs, writeback, refusals."""

import pytest

from realmkit.arch.pas import Pas
from tests.machine.core import code
from tests.machine.core.kit import CODE, HVC0, Bench

DEVICE = 0x1D00_0000
PATTERN = 0xF1E2_D3C4_B5A6_9788


class Recorder:
    """A device that answers with a pattern and remembers everything."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        """The low bytes of the pattern."""
        value = PATTERN & ((1 << 8 * size) - 1)
        self.log.append(("read", offset, size, value))
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Remember."""
        self.log.append(("write", offset, size, value))


@pytest.fixture
def device() -> Recorder:
    return Recorder()


@pytest.fixture
def bench(device: Recorder) -> Bench:
    bench = Bench()
    bench.vectors()
    bench.machine.interconnect.devices.map(DEVICE, 0x1000, frozenset({Pas.NS}), device)
    bench.ctx.x[1] = DEVICE + 0x10
    return bench


@pytest.mark.parametrize(
    ("word", "size", "value"),
    [
        (0x3940_0020, 1, 0x88),  # ldrb w0, [x1]
        (0x39C0_0020, 1, 0xFFFF_FF88),  # ldrsb w0, [x1]
        (0x3980_0020, 1, 0xFFFF_FFFF_FFFF_FF88),  # ldrsb x0, [x1]
        (0x7940_0020, 2, 0x9788),  # ldrh w0, [x1]
        (0x79C0_0020, 2, 0xFFFF_9788),  # ldrsh w0, [x1]
        (0x7980_0020, 2, 0xFFFF_FFFF_FFFF_9788),  # ldrsh x0, [x1]
        (0xB940_0020, 4, 0xB5A6_9788),  # ldr w0, [x1]
        (0xB980_0020, 4, 0xFFFF_FFFF_B5A6_9788),  # ldrsw x0, [x1]
        (0xF940_0020, 8, PATTERN),  # ldr x0, [x1]
        (0x88DF_FC20, 4, 0xB5A6_9788),  # ldar w0, [x1]
    ],
)
def test_loads(bench: Bench, device: Recorder, word: int, size: int, value: int) -> None:
    bench.load(CODE, (word, HVC0))
    bench.ctx.x[0] = 0x5555_5555_5555_5555
    bench.run()
    assert bench.ctx.x[0] == value
    assert device.log == [("read", 0x10, size, PATTERN & ((1 << 8 * size) - 1))]


@pytest.mark.parametrize(
    ("word", "size"),
    [
        (0x3900_0020, 1),  # strb w0, [x1]
        (0x7900_0020, 2),  # strh w0, [x1]
        (0xB900_0020, 4),  # str w0, [x1]
        (0xF900_0020, 8),  # str x0, [x1]
        (0xC89F_FC20, 8),  # stlr x0, [x1]
    ],
)
def test_stores(bench: Bench, device: Recorder, word: int, size: int) -> None:
    bench.load(CODE, (word, HVC0))
    bench.ctx.x[0] = PATTERN
    bench.run()
    assert device.log == [("write", 0x10, size, PATTERN & ((1 << 8 * size) - 1))]
    assert bench.ctx.pc == CODE + 8


def test_store_of_the_zero_register(bench: Bench, device: Recorder) -> None:
    bench.load(CODE, (0xB900_003F, HVC0))  # str wzr, [x1]
    bench.run()
    assert device.log == [("write", 0x10, 4, 0)]


@pytest.mark.parametrize(
    ("word", "where", "base"),
    [
        (0xB840_8420, 0x10, 0x18),  # ldr w0, [x1], #8
        (0xB840_8C20, 0x18, 0x18),  # ldr w0, [x1, #8]!
        (0xB85F_8C20, 0x08, 0x08),  # ldr w0, [x1, #-8]!
        (0xB862_7820, 0x20, 0x10),  # ldr w0, [x1, x2, lsl #2]
    ],
)
def test_addressing_and_writeback(bench: Bench, device: Recorder, word: int, where: int, base: int) -> None:
    bench.load(CODE, (word, HVC0))
    bench.ctx.x[2] = 4
    bench.run()
    assert device.log[0][1] == where
    assert bench.ctx.x[1] == DEVICE + base


def test_pair_with_writeback(bench: Bench, device: Recorder) -> None:
    bench.load(CODE, code.LDP)
    bench.run()
    assert (bench.ctx.x[2], bench.ctx.x[3]) == (PATTERN, PATTERN)
    assert [entry[1] for entry in device.log] == [0x10, 0x18]
    assert bench.ctx.x[1] == DEVICE + 0x20


def test_writeback_of_the_stack_pointer(bench: Bench, device: Recorder) -> None:
    bench.load(CODE, (0xF81F_0FE0, HVC0))  # str x0, [sp, #-16]!
    bench.ctx.regs["SP_EL1"] = DEVICE + 0x40
    bench.run()
    assert device.log[0][:3] == ("write", 0x30, 8)
    assert bench.ctx.read("SP_EL1") == DEVICE + 0x30


@pytest.mark.parametrize("word", [0xF940_0020, 0xF900_0020])
def test_nothing_there_is_an_external_abort(bench: Bench, word: int) -> None:
    bench.load(CODE, (word,))
    bench.ctx.x[1] = DEVICE + 0x8000
    assert bench.run_to_vector() == 4
    esr = bench.ctx.read("ESR_EL1")
    assert (esr >> 26, esr & 0x3F) == (0x25, 0x10)
    assert bool(esr & 1 << 6) == (word == 0xF900_0020)
    assert bench.ctx.read("FAR_EL1") == DEVICE + 0x8000
    assert "at 0x1d008000" in str(bench.machine.last_missing)


def test_simd_access_to_a_device_is_refused(bench: Bench, device: Recorder) -> None:
    bench.load(CODE, (0x3DC0_0020,))  # ldr q0, [x1]
    assert bench.run_to_vector() == 4
    assert not device.log
