"""Counters and timers of running code, on virtual time (Arm ARM D12)."""

import pytest

from realmkit.arch.gic import PPI_CNTV
from realmkit.arch.time import CHARGE_COUNTER_READ, TICKS_PER_SECOND
from realmkit.machine.core import StopKind
from tests.machine.core import code
from tests.machine.core.kit import CODE, DATA, EL0, Bench

USER = 0x40_0000
UCT = 1 << 15


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.vectors()
    return bench


def test_counter_and_identification(bench: Bench) -> None:
    bench.load(CODE, code.COUNT)
    bench.pe.cpu.time = 1_000_000
    bench.run()
    x = bench.ctx.x
    assert x[0] >= 1_000_000
    assert x[1] - x[0] == CHARGE_COUNTER_READ
    assert x[2] == TICKS_PER_SECOND
    assert x[3] == bench.machine.id_registers["CTR_EL0"]


def test_waiting_by_polling_takes_its_time_but_not_for_ever(bench: Bench) -> None:
    bench.load(CODE, code.POLL)
    bench.ctx.x[0] = TICKS_PER_SECOND // 10
    assert bench.run(budget=TICKS_PER_SECOND).kind is StopKind.LEFT
    assert bench.ctx.x[2] >= TICKS_PER_SECOND // 10
    assert bench.pe.cpu.now() < TICKS_PER_SECOND // 9


def test_polling_does_not_lead_past_the_end_of_the_run(bench: Bench) -> None:
    bench.load(CODE, code.POLL)
    bench.ctx.x[0] = TICKS_PER_SECOND
    assert bench.run(budget=50_000).kind is StopKind.BUDGET
    assert bench.pe.cpu.now() < 200_000
    bench.run(budget=50_000)
    assert bench.pe.cpu.now() < 300_000


def test_timer_condition(bench: Bench) -> None:
    bench.load(CODE, code.TIMER)
    bench.ctx.x[0] = 20_000
    while bench.run(budget=100_000).kind is StopKind.BUDGET:
        pass
    assert bench.ctx.x[3] == 0b101
    assert bench.pe.cpu.now() >= bench.ctx.regs["CNTV_CVAL_EL0"]


def test_tval_is_relative_and_signed(bench: Bench) -> None:
    bench.load(CODE, code.TIMER_TVAL)
    bench.pe.cpu.time = 500_000
    bench.ctx.x[0] = 0xFFFF_FF00  # -256
    while bench.run().kind is StopKind.BUDGET:
        pass
    assert 0 <= bench.ctx.x[1] - (500_000 - 256) < 200
    assert bench.ctx.x[3] == 0b111


def test_timer_signal_reaches_the_interrupt_controller(bench: Bench) -> None:
    ctx = bench.ctx
    ctx.regs.update({"CNTV_CTL_EL0": 1, "CNTV_CVAL_EL0": 1000})
    bench.pe.enter(bench.pe.world, ctx)
    gic = bench.machine.board.gic
    bench.machine.advance(bench.pe)
    assert not gic.is_pending(0, PPI_CNTV)
    assert bench.machine.next_event(bench.pe) == 1000
    bench.pe.cpu.time = 1000
    bench.machine.advance(bench.pe)
    assert gic.is_pending(0, PPI_CNTV)
    ctx.regs["CNTV_CTL_EL0"] = 3
    bench.machine.advance(bench.pe)
    assert not gic.is_pending(0, PPI_CNTV)


@pytest.mark.parametrize(("kernel_control", "allowed"), [(0, False), (1 << 1, True)])
def test_el0_reads_the_counter_if_el1_lets_it(bench: Bench, kernel_control: int, allowed: bool) -> None:
    bench.enable_mmu()
    bench.load(DATA, code.READ_COUNTER)
    bench.map(USER, DATA, user=True, read_only=True)
    ctx = bench.ctx
    ctx.regs["CNTKCTL_EL1"] = kernel_control
    ctx.pc, ctx.pstate = USER, EL0
    bench.pe.cpu.time = 77_000
    assert bench.run_to_vector() == 8
    assert ctx.read("ESR_EL1") >> 26 == (0x15 if allowed else 0x18)
    if allowed:
        assert 77_000 <= ctx.x[0] < 78_000
    else:
        assert ctx.read("ELR_EL1") == USER


@pytest.mark.parametrize("allowed", [False, True])
def test_el0_reads_the_cache_type_if_el1_lets_it(bench: Bench, allowed: bool) -> None:
    bench.enable_mmu()
    bench.load(DATA, code.READ_CACHE_TYPE)
    bench.map(USER, DATA, user=True, read_only=True)
    ctx = bench.ctx
    ctx.regs["SCTLR_EL1"] = ctx.regs["SCTLR_EL1"] & ~UCT | (UCT if allowed else 0)
    ctx.pc, ctx.pstate = USER, EL0
    assert bench.run_to_vector() == 8
    assert ctx.read("ESR_EL1") >> 26 == (0x15 if allowed else 0x18)
    assert ctx.x[0] == (bench.machine.id_registers["CTR_EL0"] if allowed else 0)
