"""Several contexts on PEs: state that stays apart, moves, and interleaves the same way every time."""

import struct

import pytest

from realmkit.arch.pas import Pas, SecurityState
from realmkit.machine.context import PSTATE_RESET_EL2, CpuContext
from realmkit.machine.core import StopKind
from realmkit.machine.scheduler import IdleForeverError
from tests.machine.core import code
from tests.machine.core.kit import B_SELF, CODE, DATA, Bench

NS = SecurityState.NS


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def test_fp_registers_belong_to_their_context() -> None:
    bench = Bench()
    bench.load(CODE, code.FP)
    contexts = [bench.ctx, bench.context()]
    for number, ctx in enumerate(contexts):
        ctx.regs["CPACR_EL1"] = 3 << 20
        ctx.x[0] = bits(1.5 + number)
        ctx.v[7] = 1 << 127 | number
    for _ in range(3):
        for ctx in contexts:
            ctx.pc = CODE
            bench.run(ctx, budget=100)
    for ctx in contexts:
        bench.pe.cpu.release(ctx)
    assert [ctx.v[1] for ctx in contexts] == [bits(4.5), bits(7.5)]
    assert [ctx.v[7] for ctx in contexts] == [1 << 127, 1 << 127 | 1]


def test_context_moves_to_another_pe_with_all_its_state() -> None:
    bench = Bench(pes=2)
    bench.load(CODE, code.FP)
    ctx = bench.ctx
    ctx.regs.update({"CPACR_EL1": 3 << 20, "TPIDR_EL0": 0x1234, "DBGBVR0_EL1": 0x4000, "SP_EL0": 0x99})
    ctx.x[0], ctx.fpcr = bits(2.0), 1 << 22
    bench.run(budget=100)
    other = bench.machine.pes[1]
    other.enter(NS, ctx)
    ctx.pc = CODE
    other.cpu.run(ctx, NS, True, 100)
    other.cpu.release(ctx)
    assert ctx.v[1] == bits(4.0)
    names = ("TPIDR_EL0", "DBGBVR0_EL1", "SP_EL0")
    assert [ctx.read(name) for name in names] == [0x1234, 0x4000, 0x99]
    assert ctx.fpcr == 1 << 22


def test_a_new_context_finds_nothing_of_the_last_one() -> None:
    bench = Bench()
    bench.load(CODE, code.FP)
    bench.ctx.regs.update({"TPIDR_EL1": 1, "MDSCR_EL1": 1 << 15, "DBGWVR0_EL1": 0x8000})
    bench.ctx.v[5] = 123
    bench.run(budget=100)
    bench.pe.cpu.release(bench.ctx)
    fresh = bench.context()
    bench.run(fresh, budget=100)
    bench.pe.cpu.release(fresh)
    assert [fresh.read(n) for n in ("TPIDR_EL1", "MDSCR_EL1", "DBGWVR0_EL1")] == [0, 0, 0]
    assert fresh.v[5] == 0


def interleaved() -> tuple[int, list[int], list[int]]:
    """Two images at EL2 add to one counter with exclusives."""
    bench = Bench(pes=2)
    bench.load(CODE, code.ADD_LOOP)
    machine = bench.machine
    for number, pe in enumerate(machine.pes):
        ctx = CpuContext(pc=CODE, pstate=PSTATE_RESET_EL2)
        ctx.regs["SCTLR_EL2"] = 0x30C5_0830
        ctx.x[0], ctx.x[1] = DATA, 5_000 + 700 * number
        pe.image = pe.current = ctx
        pe.powered = True
    with pytest.raises(IdleForeverError):
        machine.run(max_ticks=10_000_000)
    return bench.word(DATA), [pe.cpu.time for pe in machine.pes], [pe.cpu.ctx.pc for pe in machine.pes]


def test_pes_interleave_deterministically_and_exclusives_hold() -> None:
    first = interleaved()
    assert first[0] == 10_700
    assert interleaved() == first


def test_parked_code_says_so() -> None:
    bench = Bench()
    bench.load(CODE, (B_SELF,))
    assert bench.run().kind is StopKind.PARKED
    assert bench.bus.read(Pas.NS, CODE, 4) == B_SELF.to_bytes(4, "little")
