"""Exceptions of running code: entry and return, syndromes, stacks, interrupts (Arm ARM D1.3, D24)."""

import pytest

from realmkit.arch.gic import GROUP1, ICH_LR, LR_ACTIVE, LR_PENDING
from realmkit.arch.pas import SecurityState
from realmkit.arch.vmsa import HCR_EL2
from realmkit.machine.core import StopKind
from realmkit.machine.core.fatal import is_fatal
from tests.machine.core import code
from tests.machine.core.kit import B_SELF, CODE, DATA, EL0, EL1, HVC0, SCTLR_RESET, SPAN, VECTORS, Bench

EL1_SP0, EL1_SPX, LOWER = 0, 4, 8
"""First vectors from the same level with SP_EL0, with SP_EL1, and from EL0."""
IRQ = 1
PAN = 1 << 22
FATAL = 0x4ED0_1EDF
"""An unallocated word of SIMD with half precision."""


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.vectors()
    return bench


def test_svc_at_el1(bench: Bench) -> None:
    bench.load(CODE, code.SVC_TO_EL1)
    bench.ctx.pstate = EL1 | 1 << 31
    bench.ctx.regs["SCTLR_EL1"] = SCTLR_RESET & ~SPAN
    assert bench.run_to_vector() == EL1_SPX
    read = bench.ctx.read
    assert read("ESR_EL1") == 0x15 << 26 | 1 << 25 | 42
    assert read("ELR_EL1") == CODE + 4
    assert read("SPSR_EL1") == EL1 | 1 << 31
    assert bench.ctx.pstate == EL1 | 1 << 31 | PAN


def test_span_keeps_pan_as_it_was(bench: Bench) -> None:
    bench.load(CODE, code.SVC_TO_EL1)
    assert SCTLR_RESET & SPAN
    bench.run_to_vector()
    assert not bench.ctx.pstate & PAN


def test_eret_to_el0_and_svc_back(bench: Bench) -> None:
    bench.load(CODE, code.ERET_TO_EL0)
    bench.load(CODE + 0x100, code.USER_SVC)
    ctx = bench.ctx
    ctx.x[0], ctx.x[1] = CODE + 0x100, EL0
    ctx.regs.update({"SP_EL0": 0x1110, "SP_EL1": 0x2220})
    assert bench.run_to_vector() == LOWER
    assert ctx.read("ESR_EL1") == 0x15 << 26 | 1 << 25 | 7
    assert (ctx.read("SPSR_EL1"), ctx.read("ELR_EL1")) == (EL0, CODE + 0x104)
    assert (ctx.read("SP_EL0"), ctx.read("SP_EL1")) == (0x1110, 0x2220)
    assert ctx.pstate & 0xF == 5


def test_vector_of_the_same_level_with_sp_el0(bench: Bench) -> None:
    bench.load(CODE, code.SVC_TO_EL1)
    bench.ctx.pstate = EL1 & ~1
    assert bench.run_to_vector() == EL1_SP0
    assert bench.ctx.read("SPSR_EL1") == EL1 & ~1


def test_stack_pointers_are_banked(bench: Bench) -> None:
    bench.load(CODE, code.STACKS)
    ctx = bench.ctx
    ctx.x[0], ctx.x[1] = 0x4000, 0x5000
    bench.run()
    assert (ctx.x[2], ctx.x[3]) == (0x5000, 0x4000)
    assert (ctx.read("SP_EL0"), ctx.read("SP_EL1")) == (0x5000, 0x4000)


def test_hvc_goes_to_el2(bench: Bench) -> None:
    bench.load(CODE, code.HVC)
    assert bench.run().kind is StopKind.LEFT
    assert bench.exit.esr == 0x16 << 26 | 1 << 25 | 0x1234
    assert bench.ctx.pc == CODE + 4


def test_smc_is_trapped_at_the_instruction(bench: Bench) -> None:
    bench.load(CODE, code.SMC)
    bench.ctx.regs["HCR_EL2"] = HCR_EL2.make(TSC=1)
    bench.run()
    assert bench.exit.esr == 0x17 << 26 | 1 << 25 | 3
    assert bench.ctx.pc == CODE


def test_brk(bench: Bench) -> None:
    bench.load(CODE, code.BRK)
    assert bench.run_to_vector() == EL1_SPX
    assert bench.ctx.read("ESR_EL1") == 0x3C << 26 | 1 << 25 | 0x99
    assert bench.ctx.read("ELR_EL1") == CODE


def test_undefined(bench: Bench) -> None:
    bench.load(CODE, code.UNDEF)
    assert bench.run_to_vector() == EL1_SPX
    assert bench.ctx.read("ESR_EL1") == 1 << 25
    assert bench.ctx.read("ELR_EL1") == CODE


def test_branch_to_an_unaligned_pc(bench: Bench) -> None:
    bench.load(CODE, code.JUMP)
    bench.ctx.x[1] = CODE + 0x102
    assert bench.run_to_vector() == EL1_SPX
    assert bench.ctx.read("ESR_EL1") >> 26 == 0x22
    assert bench.ctx.read("FAR_EL1") == CODE + 0x102


# ---- waiting ----


def test_wfi_with_nothing_pending_is_idle(bench: Bench) -> None:
    bench.load(CODE, code.WFI)
    assert bench.run().kind is StopKind.IDLE
    assert bench.ctx.pc == CODE + 4


def test_wfi_and_wfe_are_trapped_when_el2_wants(bench: Bench) -> None:
    bench.ctx.regs["HCR_EL2"] = HCR_EL2.make(TWI=1, TWE=1)
    for words, ti in ((code.WFI, 0), (code.WFE, 1)):
        bench.load(CODE, words)
        bench.ctx.pc = CODE
        bench.run()
        assert bench.exit.esr >> 26 == 1
        assert bench.exit.esr & 3 == ti
        assert bench.ctx.pc == CODE


def test_wfe_that_nobody_traps_does_nothing(bench: Bench) -> None:
    bench.load(CODE, code.WFE)
    bench.run()
    assert bench.exit.esr >> 26 == 0x16


# ---- virtual interrupts ----


def pending(intid: int) -> int:
    return ICH_LR.make(vINTID=intid, Group=1, State=LR_PENDING)


def test_virtual_interrupt_is_taken_acknowledged_and_ended(bench: Bench) -> None:
    bench.load(CODE, code.ICC)
    bench.load(VECTORS + 0x280, code.ACK)
    bench.ctx.regs["HCR_EL2"] = HCR_EL2.make(IMO=1, FMO=1)
    ich = bench.ctx.ich
    ich.hcr, ich.lr[0] = 1, pending(40)
    bench.run()
    assert bench.exit.esr >> 26 == 0x16
    assert bench.ctx.x[0] == 40
    assert ich.lr[0] >> 62 == 0
    assert bench.ctx.read("SPSR_EL1") & 0x80 == 0


def test_masked_interrupt_waits_for_the_unmasking(bench: Bench) -> None:
    """The window is two instructions wide after thousands with the interrupt masked."""
    bench.load(CODE, code.MASKED)
    bench.load(VECTORS + 0x280, (HVC0 | 1 << 5,))
    bench.ctx.regs["HCR_EL2"] = HCR_EL2.make(IMO=1, FMO=1)
    ich = bench.ctx.ich
    ich.hcr, ich.vmcr, ich.lr[0] = 1, 0xF8 << 24 | 2, pending(40)
    bench.run()
    assert bench.ctx.x[1] == 3000
    assert bench.exit.esr & 0xFFFF in (0, 1)
    assert ich.lr[0] >> 62 == LR_PENDING


@pytest.mark.parametrize("line", [False, True])
def test_virtual_interrupt_is_taken_when_el2_returns_to_el1(bench: Bench, line: bool) -> None:
    """By an ERET that nobody traps: EL1 does not execute anything before it."""
    bench.load(CODE, (0xD69F_03E0,))  # eret
    bench.load(DATA, (B_SELF,))
    bench.load(VECTORS + 0x280, (B_SELF,))
    ctx = bench.ctx
    ctx.pstate = 0x3C9
    ctx.regs |= {"HCR_EL2": HCR_EL2.make(IMO=1, FMO=1, RW=1, VI=line), "ELR_EL2": DATA, "SPSR_EL2": 0x305}
    if not line:
        ctx.ich.hcr, ctx.ich.vmcr, ctx.ich.lr[0] = 1, 0xF8 << 24 | 2, pending(40)
    pe = bench.pe
    assert pe.cpu.run(ctx, SecurityState.NS, False, 1_000_000).kind is StopKind.PARKED
    assert (ctx.pc, ctx.read("ELR_EL1")) == (VECTORS + 0x280, DATA)
    history = bench.machine.history
    assert history[-1][0] < 200, "the tick at which it was taken"


def test_virtual_serror_and_irq_lines(bench: Bench) -> None:
    bench.load(CODE, (B_SELF,))
    bench.ctx.pstate = EL1 & ~0x3C0
    bench.ctx.regs["HCR_EL2"] = HCR_EL2.make(VSE=1, VI=1, IMO=1, AMO=1)
    assert bench.run_to_vector() == EL1_SPX + 3
    assert not bench.ctx.read("HCR_EL2") & HCR_EL2.mask("VSE")
    bench.ctx.pc, bench.ctx.pstate = CODE, EL1 & ~0x3C0
    assert bench.run_to_vector() == EL1_SPX + IRQ


def test_active_interrupt_is_not_taken_again(bench: Bench) -> None:
    bench.load(CODE, (B_SELF,))
    bench.ctx.pstate = EL1 & ~0x80
    ich = bench.ctx.ich
    ich.hcr, ich.vmcr = 1, 0xF8 << 24 | 2
    ich.lr[0] = ICH_LR.make(vINTID=40, Group=int(GROUP1 == 1), State=LR_ACTIVE)
    assert bench.run(budget=10_000).kind in (StopKind.BUDGET, StopKind.PARKED)
    assert bench.ctx.pc == CODE


# ---- debug ----

DEBUG_UNMASKED = EL1 & ~0x200
KDE = 1 << 13
MDE = 1 << 15


def test_software_step_of_el0(bench: Bench) -> None:
    """MDSCR_EL1.SS, and SPSR_EL1.SS at the exception return: one instruction, then EL1."""
    bench.load(CODE, code.ERET_TO_EL0)
    bench.load(CODE + 0x100, code.COUNT)
    ctx = bench.ctx
    ctx.regs.update({"MDSCR_EL1": 1, "CNTKCTL_EL1": 3})
    ctx.x[0], ctx.x[1] = CODE + 0x100, EL0 | 1 << 21
    assert bench.run_to_vector() == LOWER
    assert ctx.read("ESR_EL1") == 0x32 << 26 | 1 << 25 | 1 << 24 | 0x22
    assert ctx.read("ELR_EL1") == CODE + 0x104


def test_undefined_instruction_while_stepping_is_undefined(bench: Bench) -> None:
    bench.load(CODE, code.UNDEF)
    bench.ctx.regs["MDSCR_EL1"] = 1 | KDE
    bench.ctx.pstate = DEBUG_UNMASKED | 1 << 21
    assert bench.run_to_vector() == EL1_SPX
    assert bench.ctx.read("ESR_EL1") == 1 << 25


def test_breakpoint_of_the_context_itself(bench: Bench) -> None:
    bench.load(CODE, code.OWN_BREAKPOINT)
    ctx = bench.ctx
    ctx.pstate = DEBUG_UNMASKED
    ctx.x[3], ctx.x[4], ctx.x[6] = CODE + 5 * 4, 0xF << 5 | 3 << 1 | 1, MDE | KDE
    assert bench.run_to_vector() == EL1_SPX
    assert ctx.read("ESR_EL1") == 0x31 << 26 | 1 << 25 | 0x22
    assert ctx.read("ELR_EL1") == CODE + 5 * 4


def test_words_that_the_engine_must_not_see_in_a_page_of_el0_are_nothing_to_el1(bench: Bench) -> None:
    """EL1 may not execute that page, and does not: it works on for several slices after a call from there."""
    user = 0x40_0000
    assert is_fatal(FATAL)
    bench.enable_mmu()
    bench.map(user, DATA, user=True)
    bench.load(DATA, (0xD400_00E1, FATAL))  # svc #7
    bench.load(VECTORS + 0x400, (0xF100_0400, 0x54FF_FFE1, HVC0 | 8 << 5))  # subs x0, x0, #1; b.ne .-4; hvc #8
    ctx = bench.ctx
    ctx.x[0], ctx.pc, ctx.pstate = 300_000, user, EL0
    assert bench.run(budget=10_000_000).kind is StopKind.LEFT
    assert bench.exit.esr & 0xFFFF == 8, hex(ctx.read("ESR_EL1"))
    assert ctx.x[0] == 0
