"""Code that changes: translated code follows what is written, by whom and through which mapping ever."""

import pytest

from realmkit.arch.pas import Pas
from realmkit.machine.core import StopKind
from tests.machine.core import code
from tests.machine.core.kit import CODE, DATA, HVC0, Bench

ALIAS = 0x40_0000
TARGET = DATA
MOV_X0 = 0xD280_0000  # mov x0, #0; the immediate from bit 5


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.vectors()
    bench.enable_mmu()
    bench.map(ALIAS, DATA)
    bench.load(TARGET, code.RETURN1)
    return bench


def test_store_through_another_mapping_and_ic(bench: Bench) -> None:
    """The second store finds its translation already there: nothing but IC tells that code has changed."""
    bench.load(CODE, code.TWICE)
    ctx = bench.ctx
    ctx.x[1], ctx.x[3] = TARGET, ALIAS
    ctx.x[2], ctx.x[4] = MOV_X0 | 7 << 5, MOV_X0 | 9 << 5
    assert bench.run().kind is StopKind.LEFT
    assert (ctx.x[5], ctx.x[6], ctx.x[0]) == (1, 7, 9)


def test_new_counter_reads_are_virtual_as_well(bench: Bench) -> None:
    """Code that was written into a page that has been executed before reads virtual time, not that of the outside."""
    bench.load(CODE, code.TWICE)
    ctx = bench.ctx
    ctx.x[1], ctx.x[3] = TARGET, ALIAS
    ctx.x[2] = ctx.x[4] = 0xD53B_E040  # mrs x0, cntvct_el0
    bench.run()
    assert 0 < ctx.x[6] < ctx.x[0] < bench.pe.cpu.now()


def test_write_of_another_bus_master(bench: Bench) -> None:
    bench.load(CODE, code.CALL)
    ctx = bench.ctx
    for expected in (1, 2, 1):
        bench.load(TARGET, code.RETURN1 if expected == 1 else code.RETURN2)
        ctx.pc, ctx.x[1] = CODE, TARGET
        bench.run()
        assert ctx.x[0] == expected


def test_patch_by_cache_maintenance_of_el0_needs_uci(bench: Bench) -> None:
    words = (0xD50B_7521, HVC0)  # ic ivau, x1
    bench.load(DATA + 0x100, words)
    bench.map(ALIAS, DATA, user=True, read_only=True)
    ctx = bench.ctx
    ctx.pc, ctx.pstate, ctx.x[1] = ALIAS + 0x100, 0, ALIAS
    assert bench.run_to_vector() == 8
    assert ctx.read("ESR_EL1") >> 26 == 0x18
    ctx.write("SCTLR_EL1", ctx.read("SCTLR_EL1") | 1 << 26)
    ctx.pc, ctx.pstate = ALIAS + 0x100, 0
    assert bench.run_to_vector() == 8
    assert ctx.read("ESR_EL1") >> 26 == 0


def test_code_of_another_context_follows_too(bench: Bench) -> None:
    """IC reaches the engines of other contexts that execute the page."""
    other = bench.context()
    other.regs.update(bench.ctx.regs)
    bench.load(CODE + 0x1000, code.CALL)
    other.pc, other.x[1] = CODE + 0x1000, TARGET
    bench.run(other)
    assert other.x[0] == 1
    bench.load(CODE, code.PATCH)
    ctx = bench.ctx
    ctx.x[1], ctx.x[2], ctx.x[3] = TARGET, MOV_X0 | 5 << 5, ALIAS
    bench.run()
    assert ctx.x[0] == 5
    other.pc = CODE + 0x1000
    bench.run(other)
    assert other.x[0] == 5


def test_data_and_code_on_one_page(bench: Bench) -> None:
    """ldr and str on the page that executes them."""
    bench.load(CODE, (0xF900_0022, 0xF940_0023, HVC0))  # str x2, [x1]; ldr x3, [x1]
    bench.ctx.x[1], bench.ctx.x[2] = CODE + 0x800, 0xABCD
    bench.run()
    assert bench.ctx.x[3] == 0xABCD
    assert bench.bus.read64(Pas.NS, CODE + 0x800) == 0xABCD
