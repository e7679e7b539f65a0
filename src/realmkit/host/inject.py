"""Exceptions that the Host takes to EL1 of a plain VM (Arm ARM D1.3)."""

from typing import Final

from realmkit.arch.esr import FSC_EXTERNAL, ISS_DABT, Ec, exception_class, make_esr
from realmkit.machine.port import PSTATE_RESET_EL1, CpuContext

_EL1: Final = 0b01 << 2
_SP: Final = 1
_NZCV: Final = 0xF000_0000
_PAN: Final = 1 << 22
_SPAN: Final = 1 << 23
_VECTOR_LOWER: Final = 0x400
_VECTOR_SP1: Final = 0x200


def undefined(ctx: CpuContext) -> None:
    """The instruction at PC is UNDEFINED."""
    _take(ctx, make_esr(Ec.UNKNOWN))


def external_abort(ctx: CpuContext, esr: int, far: int) -> None:
    """Synchronous external abort of the access at PC, whose syndrome at EL2 was ``esr``."""
    fetch = exception_class(esr) == Ec.IABT_LOWER
    lower, same = (Ec.IABT_LOWER, Ec.IABT_SAME) if fetch else (Ec.DABT_LOWER, Ec.DABT_SAME)
    ec = same if ctx.pstate & _EL1 else lower
    ctx.write("FAR_EL1", far)
    _take(ctx, make_esr(ec, esr & ISS_DABT.mask("WnR") | FSC_EXTERNAL))


def _take(ctx: CpuContext, esr: int) -> None:
    ctx.write("ELR_EL1", ctx.pc)
    ctx.write("SPSR_EL1", ctx.pstate)
    ctx.write("ESR_EL1", esr)
    same = _VECTOR_SP1 if ctx.pstate & _SP else 0
    offset = same if ctx.pstate & _EL1 else _VECTOR_LOWER
    pan = ctx.pstate & _PAN if ctx.read("SCTLR_EL1") & _SPAN else _PAN
    ctx.pc = (ctx.read("VBAR_EL1") & ~0x7FF) + offset
    ctx.pstate = ctx.pstate & _NZCV | pan | PSTATE_RESET_EL1
