"""Exceptions of a running Realm that reach R-EL2 (spec: rec-run section 6).

Every handler ends with either ``port.enter`` (the Realm goes on) or a REC exit.
"""

from typing import TYPE_CHECKING, Final

from realmkit.arch.errors import InternalError
from realmkit.arch.esr import ISS_DABT, Ec, exception_class
from realmkit.arch.rmi import ExitReason, Ripas
from realmkit.arch.smccc import MASK64
from realmkit.machine.port import CpuContext, El2Port, ExceptionInfo, ExceptionKind
from realmkit.rmm.execution import calls, inject, stage1, sysreg
from realmkit.rmm.execution.exits import leave
from realmkit.rmm.rtt import translate
from realmkit.rmm.state import EmulatableAbort, Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_CLASS: Final = 0x3F << 26
_WFX_MASK: Final = _CLASS | 3
_FETCH_MASK: Final = _CLASS | ISS_DABT.mask("SET", "EA", "DFSC")
_DATA_MASK: Final = _FETCH_MASK | ISS_DABT.mask("FnV")
_EMULATABLE_MASK: Final = _DATA_MASK | ISS_DABT.mask("ISV", "SAS", "SF", "WnR")
_UNPROTECTED_IL: Final = 1 << 25
_ISV: Final = ISS_DABT.mask("ISV")
_WNR: Final = ISS_DABT.mask("WnR")
_SERROR_MASK: Final = _CLASS | 1 << 24 | 7 << 10 | 1 << 9 | 0x3F
_EXTERNAL: Final = frozenset({0x10, 0x13, 0x14, 0x15, 0x16, 0x17})
_ASYNCHRONOUS: Final = {
    ExceptionKind.IRQ: ExitReason.IRQ,
    ExceptionKind.FIQ: ExitReason.FIQ,
    ExceptionKind.SERROR: ExitReason.SERROR,
}


def on_exception(rmm: "Rmm", port: El2Port, ctx: CpuContext, exc: ExceptionInfo) -> None:
    """Serve an exception of the REC that runs on this PE."""
    rec = rmm.running.get(port.index)
    if rec is None or rec.ctx is not ctx:
        raise InternalError("an exception of a context that no REC runs")
    if exc.kind is not ExceptionKind.SYNC:
        esr = exc.esr & _SERROR_MASK if exc.kind is ExceptionKind.SERROR else 0
        leave(rmm, port, rec, _ASYNCHRONOUS[exc.kind], esr=esr)
        return
    match exception_class(exc.esr):
        case Ec.SMC64:
            calls.on_smc(rmm, port, rec)
        case Ec.DABT_LOWER | Ec.IABT_LOWER:
            _abort(rmm, port, rec, exc)
        case Ec.SYSREG:
            sysreg.on_access(rmm, port, rec, exc.esr)
        case Ec.WFX:
            ctx.pc = ctx.pc + 4 & MASK64
            leave(rmm, port, rec, ExitReason.SYNC, esr=exc.esr & _WFX_MASK)
        case Ec.HVC64:
            # The preferred return address of HVC is behind it; the exception belongs to the instruction itself.
            ctx.pc = ctx.pc - 4 & MASK64
            inject.undefined(ctx)
            port.enter(ctx)
        case _:
            inject.undefined(ctx)
            port.enter(ctx)


def _abort(rmm: "Rmm", port: El2Port, rec: Rec, exc: ExceptionInfo) -> None:
    """Stage 2 aborts: the decision table of rec-run section 6.2."""
    ctx, realm, esr = rec.ctx, rec.realm, exc.esr
    fetch = exception_class(esr) == Ec.IABT_LOWER
    ipa = exc.hpfar >> 4 << 12
    if ISS_DABT.get(esr, "DFSC") in _EXTERNAL:
        inject.external_abort(ctx, esr, exc.far)
        port.enter(ctx)
        return
    if ipa >= realm.ipa_top:
        inject.address_size_fault(ctx, esr, exc.far, stage1.leaf_level(port, rec, exc.far, ipa))
        port.enter(ctx)
        return
    if ipa < realm.unprotected_base:
        if translate(port, realm, ipa).ripas is Ripas.EMPTY:
            inject.external_abort(ctx, esr, exc.far)
            port.enter(ctx)
            return
        mask = _FETCH_MASK if fetch else _DATA_MASK
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & mask, hpfar=exc.hpfar)
        return
    if fetch:
        inject.external_abort(ctx, esr, exc.far)
        port.enter(ctx)
        return
    rec.unprotected_abort = True
    if not esr & _ISV:
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & (_DATA_MASK | _UNPROTECTED_IL), hpfar=exc.hpfar)
        return
    rec.emulatable_abort = EmulatableAbort(esr)
    gprs: tuple[int, ...] = ()
    source = ISS_DABT.get(esr, "SRT")
    if esr & _WNR and source != 31:
        gprs = (ctx.x[source] & ((1 << (8 << ISS_DABT.get(esr, "SAS"))) - 1),)
    leave(
        rmm,
        port,
        rec,
        ExitReason.SYNC,
        esr=esr & (_EMULATABLE_MASK | _UNPROTECTED_IL),
        far=exc.far & 0xFFF,
        hpfar=exc.hpfar,
        gprs=gprs,
    )
