"""Allowances of engines: how much code runs, where it stops, and the machine code that decides it."""

from collections.abc import Callable
from importlib.resources import files
from typing import Final

import pytest
from unicorn import UC_ARCH_ARM64, UC_ARCH_X86, UC_MODE_64, UC_MODE_ARM, Uc, arm64_const, x86_const

from realmkit.arch.time import CHARGE_COUNTER_POLL, CHARGE_EXIT
from realmkit.machine.core import StopKind, blocks
from realmkit.machine.port import PSTATE_DAIF
from tests.machine.core.kit import B_SELF, CODE, EL1, HVC0, Bench

NOP: Final = 0xD503_201F
LDR_X1_X0: Final = 0xF940_0001
CNTVCT_X2: Final = 0xD53B_E042
UNMASK_IRQ: Final = 0xD503_42FF
UNMAPPED: Final = 0x7000_0000


@pytest.fixture(params=["native", "python"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "python":
        monkeypatch.setattr(blocks, "_native", lambda: None)
    bench = Bench()
    bench.vectors()
    return bench


def test_time_is_what_has_been_executed(bench: Bench) -> None:
    bench.load(CODE, [*[NOP] * 100, HVC0])
    bench.run()
    other = Bench()
    other.load(CODE, [*[NOP] * 40, HVC0])
    other.run()
    assert bench.pe.cpu.now() - other.pe.cpu.now() == 60


def test_a_fault_in_the_middle_of_a_block_counts_what_was_before_it(bench: Bench) -> None:
    bench.ctx.x[0] = UNMAPPED
    bench.load(CODE, [*[NOP] * 10, LDR_X1_X0, *[NOP] * 300])
    bench.run_to_vector()
    early = bench.pe.cpu.now()
    other = Bench()
    other.vectors()
    other.ctx.x[0] = UNMAPPED
    other.load(CODE, [*[NOP] * 210, LDR_X1_X0, *[NOP] * 100])
    other.run_to_vector()
    assert other.pe.cpu.now() - early == 200


def test_a_run_ends_after_the_block_that_uses_up_the_allowance(bench: Bench) -> None:
    bench.load(CODE, [*[NOP] * 9, 0x17FF_FFF7])  # ten instructions, for ever
    assert bench.run(budget=1005).kind is StopKind.BUDGET
    assert bench.ctx.pc == CODE
    executed = bench.pe.cpu.now() - CHARGE_EXIT  # for the window of memory that is mapped at first
    assert executed % 10 == 0
    assert 0 <= executed + CHARGE_EXIT - 1005 < 10


def test_the_counter_never_goes_back(bench: Bench) -> None:
    """It is read in a block that is left early: what was read is not later than what follows."""
    bench.ctx.x[0] = UNMAPPED
    bench.load(CODE, [CNTVCT_X2, LDR_X1_X0, *[NOP] * 300])
    bench.load(0x8002_0200, [0xD53B_E043, HVC0 | 4 << 5])  # the vector reads it into X3
    assert bench.run_to_vector() == 4
    assert 0 < bench.ctx.x[2] < bench.ctx.x[3]


def test_a_masked_interrupt_is_taken_at_the_unmasking(bench: Bench) -> None:
    """Although it is masked again two instructions later."""
    bench.load(CODE, [UNMASK_IRQ, NOP, 0xD503_42DF, B_SELF])
    ich = bench.ctx.ich
    ich.hcr, ich.vmcr, ich.lr[0] = 1, 0xF8 << 24 | 2, 1 << 62 | 1 << 60 | 40
    assert bench.run_to_vector() == 5
    assert bench.ctx.read("ELR_EL1") == CODE + 4
    assert bench.ctx.read("SPSR_EL1") & PSTATE_DAIF == EL1 & PSTATE_DAIF & ~0x80


def test_a_timer_that_is_set_ends_the_allowance(bench: Bench) -> None:
    """Its line rises although the code that has set it goes on without any exit."""
    bench.load(CODE, [0xD51B_E320, 0xD51B_E300 | 1, UNMASK_IRQ, B_SELF])  # CVAL = X0, CTL = X1
    bench.ctx.x[0:2] = [5_000, 1]
    assert bench.run(budget=1_000_000).kind is StopKind.BUDGET
    assert bench.pe.cpu.now() < 1_000


def test_exits_use_up_the_budget_as_well(bench: Bench) -> None:
    """SVC and ERET for ever: what exits are charged counts, although the code is never left."""
    bench.load(CODE, [0xD400_0001, 0x17FF_FFFF])  # svc #0; b .-4
    bench.load(0x8002_0200, [0xD69F_03E0])  # eret
    assert bench.run(budget=100 * CHARGE_EXIT).kind is StopKind.BUDGET
    assert bench.pe.cpu.now() < 102 * CHARGE_EXIT


def test_code_after_exits_gets_what_they_have_left(bench: Bench) -> None:
    """A hundred SVCs, then a loop without exits, which must not be allowed all that was granted before them."""
    bench.load(CODE, [0xD280_0C80, 0xD400_0001, 0xF100_0400, 0x54FF_FFC1, *[NOP] * 9, 0x17FF_FFF7])
    bench.load(0x8002_0200, [0xD69F_03E0])  # eret
    assert bench.run(budget=150 * CHARGE_EXIT).kind is StopKind.BUDGET
    assert bench.pe.cpu.now() < 151 * CHARGE_EXIT


@pytest.mark.parametrize("budget", [1_000, 20_000, 300_000])
def test_reads_of_counters_use_up_the_budget_as_well(bench: Bench, budget: int) -> None:
    """What they are charged counts, although the code is never left: no interrupt comes late because of them."""
    bench.load(CODE, [CNTVCT_X2, 0x17FF_FFFF])  # mrs x2, cntvct_el0; b .-4
    assert bench.run(budget=budget).kind is StopKind.BUDGET
    assert budget <= bench.pe.cpu.now() < budget + 2 * CHARGE_EXIT
    assert budget - CHARGE_COUNTER_POLL < bench.ctx.x[2] <= bench.pe.cpu.now()


# ---- the machine code itself, whichever machine this is ----

_STATE, _STOP, _READ, _CODE, _STACK, _RETURN = 0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000, 0x5_F000, 0x6_0000
_CASES: Final = [
    # left, mask, expected, PSTATE: whether the block is executed
    (0, 0, 0, 0, False),
    (-4, 0, 0, 0, False),
    (4, 0, 0, 0, True),
    (1 << 40, 0, 0, 0, True),
    (4, 0x8C, 0x84, 0x6000_03C5, True),
    (4, 0x8C, 0x84, 0x6000_0345, False),
    (4, 0x8C, 0x84, 0x6000_03C0, False),
    (0, 0x8C, 0x84, 0x6000_03C5, False),
]
_SIZE, _ADDRESS = 24, 0xFFFF_8000_1234_5678


def _run_x86(state: bytes, pstate: int) -> Uc:
    uc = Uc(UC_ARCH_X86, UC_MODE_64)
    _map(uc, "x86_64.bin", state)
    uc.mem_write(_STOP, bytes((0xC6, 0x04, 0x25, *(_STATE + 0x100).to_bytes(4, "little"), 1, 0xC3)))  # movb $1, ..; ret
    store = bytes((0xC7, 0x02, *pstate.to_bytes(4, "little")))  # movl $pstate, (%rdx)
    clobber = bytes((0x31, 0xC9, 0x31, 0xFF, 0x31, 0xF6, 0x31, 0xD2))  # xor ecx, edi, esi, edx
    uc.mem_write(_READ, store + clobber + b"\xc3")
    uc.mem_write(_STACK, _RETURN.to_bytes(8, "little"))
    for register, value in (("RCX", _STATE), ("RSI", _ADDRESS), ("RDX", 0xDEAD << 32 | _SIZE), ("RSP", _STACK)):
        uc.reg_write(getattr(x86_const, f"UC_X86_REG_{register}"), value)
    uc.emu_start(_CODE, _RETURN, count=1000)
    assert uc.reg_read(x86_const.UC_X86_REG_RSP) == _STACK + 8
    return uc


def _run_aarch64(state: bytes, pstate: int) -> Uc:
    uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
    _map(uc, "aarch64.bin", state)
    stop = (0xD280_0020, 0xD2A0_0029, 0xB901_0120, 0xD65F_03C0)  # mov x0, 1; mov x9, STATE; str w0, [x9, 0x100]; ret
    uc.mem_write(_STOP, _words(stop))
    # movz/movk w4, pstate; str w4, [x2]; then everything that a call may change is changed
    low, high = 0x5280_0004 | (pstate & 0xFFFF) << 5, 0x72A0_0004 | pstate >> 16 << 5
    zero = [0xD280_0000 | register for register in (*range(19), 30)]
    uc.mem_write(_READ, _words((low, high, 0xB900_0044, 0xAA1E_03F1, *zero[:17], 0xD61F_0220)))  # br x17
    for register, value in (("X1", _ADDRESS), ("X2", 0xDEAD << 32 | _SIZE), ("X3", _STATE), ("X30", _RETURN)):
        uc.reg_write(getattr(arm64_const, f"UC_ARM64_REG_{register}"), value)
    uc.reg_write(arm64_const.UC_ARM64_REG_SP, _STACK)
    uc.emu_start(_CODE, _RETURN, count=1000)
    assert uc.reg_read(arm64_const.UC_ARM64_REG_SP) == _STACK
    return uc


def _words(words: tuple[int, ...]) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def _map(uc: Uc, name: str, state: bytes) -> None:
    uc.mem_map(_STATE, 0x10_0000)
    uc.mem_write(_CODE, (files(blocks) / name).read_bytes())
    uc.mem_write(_STATE, state)


@pytest.mark.parametrize("machine", [_run_x86, _run_aarch64])
@pytest.mark.parametrize(("left", "mask", "expected", "pstate", "goes_on"), _CASES)
def test_machine_code(
    machine: Callable[[bytes, int], Uc], left: int, mask: int, expected: int, pstate: int, goes_on: bool
) -> None:
    slots = (left & (1 << 64) - 1, 7, 9, _STOP, mask, expected, _READ, 42, 0)
    uc = machine(b"".join(slot.to_bytes(8, "little") for slot in slots), pstate)
    after = [int.from_bytes(uc.mem_read(_STATE + 8 * n, 8), "little") for n in range(3)]
    assert bool(uc.mem_read(_STATE + 0x100, 1)[0]) is not goes_on
    assert after == ([left - _SIZE & (1 << 64) - 1, _ADDRESS, _SIZE] if goes_on else list(slots[:3]))
