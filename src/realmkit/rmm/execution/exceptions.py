"""Exceptions of a running Realm that reach R-EL2 (spec: rec-run section 6).

Every handler ends with exactly one of ``resume`` (the Realm goes on) and ``leave`` (a REC exit).
"""

from typing import TYPE_CHECKING, Final

from realmkit.arch.errors import InternalError
from realmkit.arch.esr import (
    DABT_SAS_MAX,
    DABT_SAS_SHIFT,
    DABT_SRT_MAX,
    DABT_SRT_SHIFT,
    DABT_STATUS,
    DABT_WNR,
    FSC_GPF,
    FSC_GPF_WALK,
    ISS_DABT,
    Ec,
    exception_class,
)
from realmkit.arch.rmi import ExitReason, Ripas
from realmkit.arch.smccc import MASK64
from realmkit.machine.port import CpuContext, El2Port, ExceptionInfo, ExceptionKind
from realmkit.rmm.execution import calls, inject, registers, stage1, sysreg
from realmkit.rmm.execution.exits import leave, resume
from realmkit.rmm.rtt import translate
from realmkit.rmm.state import Rec, UnprotectedAbort

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_SYNC: Final = ExceptionKind.SYNC
_EC: Final = 0x3F << 26
_WFX_EXIT: Final = _EC | 0b11  # TI
_FETCH_EXIT: Final = _EC | ISS_DABT.mask("SET", "EA", "DFSC")
_DATA_EXIT: Final = _FETCH_EXIT | ISS_DABT.mask("FnV")
"""IL is left out at Unprotected IPAs too: it is 1 in every data abort without ISV, and Hosts expect these bits only."""
_EMULATABLE_EXIT: Final = _DATA_EXIT | ISS_DABT.mask("ISV", "SAS", "SF", "WnR")
_OF_SIZE: Final = tuple((1 << (8 << size)) - 1 for size in range(4))
"""By SAS: the bits of a register that the access moves."""
_EXTERNAL: Final = frozenset({0x10, 0x13, 0x14, 0x15, 0x16, 0x17})
_GRANULE_PROTECTION: Final = range(FSC_GPF_WALK - 1, FSC_GPF + 1)
_SET_RESTARTABLE: Final = 3  # UEO

_SERROR_IDS: Final = 1 << 24
_SERROR_AET: Final = 0b111 << 10
_SERROR_EXIT: Final = _EC | _SERROR_IDS | _SERROR_AET | ISS_DABT.mask("EA", "DFSC")
_SERROR_ASYNCHRONOUS: Final = 0x11
_AET_UNRECOVERABLE, _AET_RECOVERABLE = 1 << 10, 3 << 10  # UEU, UER


def on_exception(rmm: "Rmm", port: El2Port, ctx: CpuContext, exc: ExceptionInfo) -> None:
    """Serve an exception of the REC that runs on this PE."""
    rec = rmm.running.get(port.index)
    if rec is None or rec.ctx is not ctx:
        raise InternalError("an exception of a context that no REC runs")
    if exc.kind is not _SYNC:
        _asynchronous(rmm, port, rec, exc)
        return
    match exception_class(exc.esr):
        case Ec.DABT_LOWER | Ec.IABT_LOWER:
            _abort(rmm, port, rec, exc)
        case Ec.SMC64:
            calls.on_smc(rmm, port, rec)
        case Ec.SYSREG:
            sysreg.on_access(rmm, port, rec, exc.esr)
        case Ec.WFX:
            ctx.pc = ctx.pc + 4 & MASK64
            leave(rmm, port, rec, ExitReason.SYNC, esr=exc.esr & _WFX_EXIT)
        case Ec.HVC64:
            # The preferred return address of HVC is behind it; the exception belongs to the instruction itself.
            ctx.pc = ctx.pc - 4 & MASK64
            inject.undefined(ctx)
            resume(rmm, port, rec)
        case Ec.FP_ACCESS | Ec.SVE_ACCESS | Ec.SME_ACCESS:
            # FP and SIMD are never trapped; SVE and SME are not there for Realms.
            inject.undefined(ctx)
            resume(rmm, port, rec)
        case _:
            leave(rmm, port, rec, ExitReason.SYNC)


def _asynchronous(rmm: "Rmm", port: El2Port, rec: Rec, exc: ExceptionInfo) -> None:
    if exc.kind is ExceptionKind.IRQ:
        leave(rmm, port, rec, ExitReason.IRQ)
    elif exc.kind is ExceptionKind.FIQ:
        leave(rmm, port, rec, ExitReason.FIQ)
    else:
        _serror(rmm, port, rec, exc.esr)


def _serror(rmm: "Rmm", port: El2Port, rec: Rec, esr: int) -> None:
    """An asynchronous external abort: the Host's business, and the Realm's too if its state may be corrupt."""
    described = esr & (_SERROR_IDS | DABT_STATUS) == _SERROR_ASYNCHRONOUS
    if described and esr & _SERROR_AET in (_AET_UNRECOVERABLE, _AET_RECOVERABLE):
        rec.ctx.write("HCR_EL2", rec.ctx.read("HCR_EL2") | registers.HCR_VSE)
    leave(rmm, port, rec, ExitReason.SERROR, esr=esr & _SERROR_EXIT)


def _abort(rmm: "Rmm", port: El2Port, rec: Rec, exc: ExceptionInfo) -> None:
    """Stage 2 aborts: the decision table of rec-run section 6.2, top to bottom."""
    ctx, realm, esr = rec.ctx, rec.realm, exc.esr
    fetch = exception_class(esr) == Ec.IABT_LOWER
    status = esr & DABT_STATUS
    if status in _EXTERNAL:
        if ISS_DABT.get(esr, "SET") != _SET_RESTARTABLE:
            inject.external_abort(ctx, esr, exc.far)
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & (_FETCH_EXIT if fetch else _DATA_EXIT))
        return
    if status in _GRANULE_PROTECTION:
        # A Host took back memory that it had mapped: the Realm has to live with it (RMM 1.0-rel0 A5.2.6).
        inject.external_abort(ctx, esr, exc.far)
        resume(rmm, port, rec)
        return
    ipa = exc.hpfar >> 4 << 12
    if ipa >= realm.ipa_top:
        inject.address_size_fault(ctx, esr, exc.far, stage1.faulting_level(port, rec, exc.far))
        resume(rmm, port, rec)
        return
    protected = ipa < realm.unprotected_base
    # The Host cannot provide an EMPTY page, and no Realm executes memory that its Host can write.
    forbidden = translate(port, realm, ipa).ripas is Ripas.EMPTY if protected else fetch
    if forbidden:
        inject.external_abort(ctx, esr, exc.far)
        resume(rmm, port, rec)
        return
    if protected:
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & (_FETCH_EXIT if fetch else _DATA_EXIT), hpfar=exc.hpfar)
        return
    rec.unprotected_abort = abort = UnprotectedAbort(esr, exc.far)
    if not abort.emulatable:
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & _DATA_EXIT, hpfar=exc.hpfar)
        return
    gprs: tuple[int, ...] = ()
    source = esr >> DABT_SRT_SHIFT & DABT_SRT_MAX
    if esr & DABT_WNR and source != DABT_SRT_MAX:
        gprs = (ctx.x[source] & _OF_SIZE[esr >> DABT_SAS_SHIFT & DABT_SAS_MAX],)
    leave(
        rmm,
        port,
        rec,
        ExitReason.SYNC,
        esr=esr & _EMULATABLE_EXIT,
        far=exc.far & 0xFFF,
        hpfar=exc.hpfar,
        gprs=gprs,
    )
