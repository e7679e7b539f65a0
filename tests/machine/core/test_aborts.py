"""Aborts of running code: class, status code, exact address, and what EL2 is told of stage 2 (Arm ARM D24.2.40)."""

import pytest

from realmkit.arch.pas import Pas
from realmkit.arch.vmsa import HCR_EL2, VTCR_EL2
from realmkit.machine.core import StopKind
from tests.machine.core import code
from tests.machine.core.kit import CODE, DATA, EL0, EL1, HVC0, PAGE, SCTLR_RESET, VECTORS, Bench

LOWER, SAME = 8, 4
WNR = 1 << 6
ISV = 1 << 24
UNMAPPED = 0x9000_0000
USER = 0x40_0000
PAN = 1 << 22


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.vectors()
    bench.enable_mmu()
    return bench


def esr(bench: Bench) -> tuple[int, int]:
    """Class and ISS of ESR_EL1."""
    value = bench.ctx.read("ESR_EL1")
    return value >> 26, value & 0x1FF_FFFF


def user_code(bench: Bench, words: tuple[int, ...]) -> None:
    """Code for EL0 at USER."""
    bench.load(DATA, words)
    bench.map(USER, DATA, user=True, read_only=True)
    bench.ctx.pc, bench.ctx.pstate = USER, EL0


def test_translation_faults_of_el1(bench: Bench) -> None:
    for words, wnr in ((code.LDR, 0), (code.STR, WNR)):
        bench.load(CODE, words)
        bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[1] = CODE, EL1, UNMAPPED + 0x18
        assert bench.run_to_vector() == SAME
        assert esr(bench) == (0x25, 0b000110 | wnr)
        assert bench.ctx.read("FAR_EL1") == UNMAPPED + 0x18
        assert bench.ctx.read("ELR_EL1") == CODE
        bench.load(CODE, (HVC0,) * 2)


def test_level_3_and_el0(bench: Bench) -> None:
    user_code(bench, code.LDR)
    bench.ctx.x[1] = USER + PAGE + 8
    assert bench.run_to_vector() == LOWER
    assert esr(bench) == (0x24, 0b000111)
    assert bench.ctx.read("FAR_EL1") == USER + PAGE + 8


def test_user_cannot_touch_kernel_pages(bench: Bench) -> None:
    user_code(bench, code.STR)
    bench.ctx.x[1] = DATA
    assert bench.run_to_vector() == LOWER
    assert esr(bench) == (0x24, 0b001111 | WNR)


def test_write_to_a_read_only_page(bench: Bench) -> None:
    bench.load(CODE, code.STR)
    bench.map(DATA, DATA, read_only=True)
    bench.ctx.x[1] = DATA + 0x40
    assert bench.run_to_vector() == SAME
    assert esr(bench) == (0x25, 0b001111 | WNR)


def test_fetch_from_nowhere_and_from_execute_never(bench: Bench) -> None:
    bench.map(DATA, DATA, execute=False)
    for target, fsc in ((UNMAPPED + 4, 0b000110), (DATA + 4, 0b001111)):
        bench.load(CODE, code.JUMP)
        bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[1] = CODE, EL1, target
        assert bench.run_to_vector() == SAME
        assert esr(bench) == (0x21, fsc)
        assert bench.ctx.read("FAR_EL1") == bench.ctx.read("ELR_EL1") == target


def test_access_across_a_page_faults_at_the_second_page(bench: Bench) -> None:
    end = 0x8004_0000
    bench.load(CODE, code.LDR_UNALIGNED)
    bench.ctx.x[1] = end
    bench.run_to_vector()
    assert bench.ctx.read("FAR_EL1") == end


def test_an_atomic_reports_a_read_first(bench: Bench) -> None:
    bench.load(CODE, code.SWP)
    bench.ctx.x[1] = UNMAPPED
    bench.run_to_vector()
    assert esr(bench) == (0x25, 0b000110)
    bench.map(DATA, DATA, read_only=True)
    bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[1] = CODE, EL1, DATA
    bench.run_to_vector()
    assert esr(bench) == (0x25, 0b001111 | WNR)


def test_access_flag_fault_and_hardware_update(bench: Bench) -> None:
    bench.load(CODE, code.LDR)
    entry = bench.entry(DATA)
    bench.bus.write64(Pas.NS, entry, bench.word(entry) & ~(1 << 10))
    bench.ctx.x[1] = DATA
    bench.run_to_vector()
    assert esr(bench) == (0x25, 0b001011)
    bench.ctx.write("TCR_EL1", bench.ctx.read("TCR_EL1") | 1 << 39)
    bench.ctx.pc, bench.ctx.pstate = CODE, EL1
    bench.run()
    assert bench.word(entry) & 1 << 10


def test_dirty_state_by_hardware(bench: Bench) -> None:
    bench.load(CODE, code.LDR)
    bench.load(CODE + 4, code.STR)
    bench.map(DATA, DATA, read_only=True)
    entry = bench.entry(DATA)
    bench.bus.write64(Pas.NS, entry, bench.word(entry) | 1 << 51)
    bench.ctx.regs["TCR_EL1"] |= 3 << 39
    bench.ctx.x[1] = DATA
    bench.run()
    assert bench.exit.esr >> 26 == 0x16
    assert not bench.word(entry) & 1 << 7


def test_dc_zva(bench: Bench) -> None:
    bench.load(CODE, code.ZERO)
    bench.bus.write(Pas.NS, DATA, b"\xff" * 128)
    bench.ctx.x[1] = DATA + 5
    bench.run()
    assert bench.bus.read(Pas.NS, DATA, 128) == bytes(64) + b"\xff" * 64
    bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[1] = CODE, EL1, UNMAPPED + 5
    bench.run_to_vector()
    assert esr(bench) == (0x25, 0b000110 | WNR)


# ---- PAN, LDTR, STTR ----


def test_pan_keeps_el1_from_user_pages_but_not_ldtr(bench: Bench) -> None:
    bench.map(USER, DATA, user=True)
    bench.bus.write64(Pas.NS, DATA + 8, 0x1234)
    for words, allowed in ((code.LDTR, True), (code.LDR, False), (code.LDTR, True), (code.STTR, True)):
        bench.load(CODE, words)
        bench.pe.cpu.forget_code(CODE)
        bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[1] = CODE, EL1 | PAN, USER + 8
        bench.run()
        if allowed:
            assert bench.exit.esr & 0xFFFF == 0
            assert bench.ctx.x[0] == 0x1234
        else:
            assert bench.exit.esr & 0xFFFF == SAME
            assert esr(bench) == (0x25, 0b001111)


def test_ldtr_may_not_read_what_only_el1_may(bench: Bench) -> None:
    """Even when EL1 itself has just read it."""
    bench.load(CODE, (*code.LDR[:1], *code.LDTR))
    bench.ctx.x[1] = DATA
    assert bench.run_to_vector() == SAME
    assert esr(bench) == (0x25, 0b001111)
    assert bench.ctx.read("ELR_EL1") == CODE + 4


def test_el1_still_reads_what_ldtr_may_not(bench: Bench) -> None:
    bench.load(CODE, code.LDTR)
    bench.load(VECTORS + 0x200, code.LDR)
    bench.bus.write64(Pas.NS, DATA, 77)
    bench.ctx.x[1] = DATA
    bench.run()
    assert bench.exit.esr & 0xFFFF == 0
    assert bench.ctx.x[0] == 77


# ---- stage 2 ----


@pytest.fixture
def guest() -> Bench:
    """MMU off at stage 1; stage 2 maps CODE and nothing else."""
    bench = Bench()
    root, second, third = 0x8020_0000, 0x8020_1000, 0x8020_2000
    bench.bus.write64(Pas.NS, root + 8 * (CODE >> 30), second | 3)
    bench.bus.write64(Pas.NS, second + 8 * (CODE >> 21 & 511), third | 3)
    attributes = 1 << 10 | 3 << 8 | 3 << 6 | 0xF << 2 | 3
    bench.bus.write64(Pas.NS, third + 8 * (CODE >> 12 & 511), CODE | attributes)
    bench.ctx.regs.update(
        {
            "HCR_EL2": HCR_EL2.make(VM=1, RW=1),
            "VTTBR_EL2": root | 1 << 48,
            "VTCR_EL2": VTCR_EL2.make(T0SZ=32, SL0=1, PS=5),
            "SCTLR_EL1": SCTLR_RESET,
        }
    )
    return bench


@pytest.mark.parametrize(
    ("word", "iss"),
    [
        (0x3940_0020, ISV | 0 << 22 | 0 << 15),  # ldrb w0, [x1]
        (0x7940_0020, ISV | 1 << 22),  # ldrh w0, [x1]
        (0xB980_0020, ISV | 2 << 22 | 1 << 21 | 1 << 15),  # ldrsw x0, [x1]
        (0xF940_0025, ISV | 3 << 22 | 5 << 16 | 1 << 15),  # ldr x5, [x1]
        (0xB900_0023, ISV | 2 << 22 | 3 << 16 | WNR),  # str w3, [x1]
        (0xF840_8420, 0),  # ldr x0, [x1], #8
        (0xA940_0820, 0),  # ldp x0, x2, [x1]
        (0x3DC0_0020, 0),  # ldr q0, [x1]
        (0xC8DF_FC20, ISV | 3 << 22 | 1 << 15 | 1 << 14),  # ldar x0, [x1]
    ],
)
def test_stage_2_data_abort_describes_the_access(guest: Bench, word: int, iss: int) -> None:
    guest.load(CODE, (word,))
    guest.ctx.x[1] = 0xA000_1238
    assert guest.run().kind is StopKind.LEFT
    assert guest.exit.esr == 0x24 << 26 | 1 << 25 | iss | 0b000110
    assert guest.exit.far == 0xA000_1238
    assert guest.exit.hpfar == 0xA000_1000 >> 8
    assert guest.ctx.pc == CODE


def test_stage_2_instruction_abort(guest: Bench) -> None:
    guest.load(CODE, code.JUMP)
    guest.ctx.x[1] = CODE + PAGE + 8
    guest.run()
    assert guest.exit.esr == 0x20 << 26 | 1 << 25 | 0b000111
    assert guest.exit.far == CODE + PAGE + 8
    assert guest.exit.hpfar == CODE + PAGE >> 8


def test_stage_2_fault_of_a_walk(guest: Bench) -> None:
    guest.load(CODE, code.LDR)
    guest.ctx.regs.update({"TCR_EL1": 25 | 1 << 23, "TTBR0_EL1": 0xB000_0000, "SCTLR_EL1": SCTLR_RESET | 1})
    guest.run()
    assert guest.exit.esr == 0x20 << 26 | 1 << 25 | 1 << 7 | 0b000110
    assert guest.exit.hpfar == 0xB000_0000 >> 8
