"""Exceptions that the RMM takes to a Realm's EL1 (spec: rec-run section 7)."""

from typing import Final

from realmkit.arch.esr import FSC_ADDRESS_SIZE, FSC_EXTERNAL, ISS_DABT, Ec, exception_class, make_esr
from realmkit.machine.port import PSTATE_RESET_EL1, CpuContext

_EL_MASK: Final = 0xC
_NZCV: Final = 0xF000_0000
_AARCH32: Final = 1 << 4
_PAN: Final = 1 << 22
_SPAN: Final = 1 << 23
_CLEARED: Final = ISS_DABT.mask("DFSC", "FnV", "S1PTW")
_EA: Final = ISS_DABT.mask("EA")


def _enter(ctx: CpuContext, esr: int, far: int | None) -> None:
    """Synchronous exception to EL1."""
    pstate = ctx.pstate
    ctx.write("ELR_EL1", ctx.pc)
    ctx.write("SPSR_EL1", pstate)
    ctx.write("ESR_EL1", esr)
    if far is not None:
        ctx.write("FAR_EL1", far)
    if pstate & _AARCH32:
        offset = 0x600
    elif not pstate & _EL_MASK:
        offset = 0x400
    else:
        offset = 0x200 if pstate & 1 else 0
    pan = pstate & _PAN if ctx.read("SCTLR_EL1") & _SPAN else _PAN
    ctx.pc = (ctx.read("VBAR_EL1") & ~0x7FF) + offset
    ctx.pstate = pstate & _NZCV | pan | PSTATE_RESET_EL1


def _abort_class(ctx: CpuContext, esr: int) -> Ec:
    """Class of an abort taken at EL1, from the class that it had at EL2."""
    fetch = exception_class(esr) == Ec.IABT_LOWER
    if ctx.pstate & _EL_MASK:
        return Ec.IABT_SAME if fetch else Ec.DABT_SAME
    return Ec.IABT_LOWER if fetch else Ec.DABT_LOWER


def undefined(ctx: CpuContext) -> None:
    """Unknown exception at PC."""
    _enter(ctx, make_esr(Ec.UNKNOWN), None)


def external_abort(ctx: CpuContext, esr: int, far: int) -> None:
    """Synchronous external abort for an access whose syndrome at EL2 was ``esr``."""
    iss = esr & 0x1FF_FFFF & ~_CLEARED | FSC_EXTERNAL | _EA
    _enter(ctx, make_esr(_abort_class(ctx, esr), iss), far)


def address_size_fault(ctx: CpuContext, esr: int, far: int, level: int) -> None:
    """Stage 1 Address Size fault at ``level``: the Realm's tables point outside its IPA space."""
    iss = esr & ISS_DABT.mask("WnR") | FSC_ADDRESS_SIZE + level
    _enter(ctx, make_esr(_abort_class(ctx, esr), iss), far)
