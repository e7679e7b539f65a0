"""RMI_REC_ENTER: conditions, completion of what the last exit left open, way in (spec: rec-run sections 2, 3).

A PSCI request is completed by RMI_PSCI_COMPLETE itself, in the caller's registers. Of trapped system registers only
writes go to the Host, so an entry has no value to take over for one.
"""

import struct
from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import DABT_SRT_MAX, DABT_SRT_SHIFT, DABT_WNR, loaded
from realmkit.arch.events import RecEntered
from realmkit.arch.gic import LIST_REGISTERS
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import (
    ENTER_EMUL_MMIO,
    ENTER_INJECT_SEA,
    ENTER_RIPAS_REJECT,
    ENTER_TRAP_WFE,
    ENTER_TRAP_WFI,
    Ripas,
    Rmi,
    Status,
)
from realmkit.arch.rsi import RESPONSE_ACCEPT, RESPONSE_REJECT, RsiStatus
from realmkit.arch.smccc import MASK64
from realmkit.machine.port import El2Port
from realmkit.rmm.dispatch import Command, rmi_command
from realmkit.rmm.execution import inject, lists, memory, registers
from realmkit.rmm.execution.commands_rec import require_rec
from realmkit.rmm.execution.exits import resume
from realmkit.rmm.state import RealmState, Rec, Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_FLAGS: Final = struct.Struct("<Q")
_GPRS: Final = struct.Struct("<31Q")
_GPRS_OFFSET: Final = 0x200
_GIC: Final = struct.Struct(f"<{1 + LIST_REGISTERS}Q")
"""gicv3_hcr and those of gicv3_lrs that are implemented."""
_GIC_OFFSET: Final = 0x300
_ENTER_END: Final = _GIC_OFFSET + _GIC.size
_HOST_CALL_GPRS_OFFSET: Final = 8
_SUCCESS: Final = int(RsiStatus.SUCCESS)


def rec_enter(rmm: "Rmm", port: El2Port, rec: int, run_ptr: int) -> None:
    """RMI_REC_ENTER: run a REC until it exits; the command completes in :func:`realmkit.rmm.execution.exits.leave`."""
    rmm.granules.require_ns(run_ptr, "run")
    found = rmm.recs.get(rec) or require_rec(rmm, rec, "rec")
    # The page is copied once: what is checked is what is used.
    page = rmm.granules.read_ns(port, run_ptr, "run", _ENTER_END)
    realm = found.realm
    if found.running:
        raise Refusal("rec_state", Status.ERROR_REC)
    if realm.state is RealmState.NEW:
        raise Refusal("realm_new", Status.ERROR_REALM, 0)
    if realm.state is RealmState.SYSTEM_OFF:
        raise Refusal("system_off", Status.ERROR_REALM, 1)
    if not found.runnable:
        raise Refusal("rec_runnable", Status.ERROR_REC)
    if found.psci_pending is not None:
        raise Refusal("rec_psci", Status.ERROR_REC)
    (flags,) = _FLAGS.unpack_from(page)
    hcr, *lrs = _GIC.unpack_from(page, _GIC_OFFSET)
    if not lists.is_valid(hcr, lrs):
        raise Refusal("rec_gicv3", Status.ERROR_REC)
    abort = found.unprotected_abort
    # inject_sea wins over emul_mmio, and has no effect where the last exit gives it none.
    if flags & (ENTER_EMUL_MMIO | ENTER_INJECT_SEA) == ENTER_EMUL_MMIO and (abort is None or not abort.emulatable):
        raise Refusal("rec_mmio", Status.ERROR_REC)

    found.running = True
    found.run_ptr = run_ptr
    rmm.running[port.index] = found
    ctx = found.ctx
    if abort is not None:
        _complete_abort(found, flags, *_FLAGS.unpack_from(page, _GPRS_OFFSET))
    if found.ripas is not None:
        _complete_ripas(found, flags)
    lists.load(ctx.ich, hcr, lrs)
    if port.events.detailed:
        port.events.emit(RecEntered(port.now(), port.index, rec))
    if found.host_call_ipa is not None:
        try:
            _complete_host_call(port, found, found.host_call_ipa, _GPRS.unpack_from(page, _GPRS_OFFSET))
        except memory.NotMappedError as missing:
            memory.leave_for_page(rmm, port, found, missing)
            return
    trap = (registers.HCR_TWI if flags & ENTER_TRAP_WFI else 0) | (registers.HCR_TWE if flags & ENTER_TRAP_WFE else 0)
    ctx.write("HCR_EL2", registers.HCR | trap | ctx.read("HCR_EL2") & registers.HCR_VSE)
    ctx.write("CNTHCTL_EL2", registers.CNTHCTL | found.timer_masks)
    resume(rmm, port, found)


def _complete_abort(rec: Rec, flags: int, value: int) -> None:
    """The Host's answer to a data abort at an Unprotected IPA: refuse the access, emulate it, or let it be retried."""
    abort, rec.unprotected_abort = rec.unprotected_abort, None
    if abort is None:
        return
    ctx = rec.ctx
    if flags & ENTER_INJECT_SEA:
        inject.external_abort(ctx, abort.esr, abort.far)
        return
    if not flags & ENTER_EMUL_MMIO:
        return
    esr = abort.esr
    target = esr >> DABT_SRT_SHIFT & DABT_SRT_MAX
    if not esr & DABT_WNR and target != DABT_SRT_MAX:
        ctx.x[target] = loaded(esr, value)
    ctx.pc = ctx.pc + 4 & MASK64


def _complete_ripas(rec: Rec, flags: int) -> None:
    """Results of RSI_IPA_STATE_SET: how far the Host went, and whether it refuses the rest."""
    request, rec.ripas = rec.ripas, None
    if request is None:
        return
    rejected = request.value is Ripas.RAM and request.addr != request.top and flags & ENTER_RIPAS_REJECT
    rec.ctx.x[0:4] = [_SUCCESS, request.addr, RESPONSE_REJECT if rejected else RESPONSE_ACCEPT, 0]


def _complete_host_call(port: El2Port, rec: Rec, ipa: int, gprs: tuple[int, ...]) -> None:
    """Registers of RSI_HOST_CALL go to the Realm's structure; one that has become EMPTY gets nothing."""
    try:
        where = memory.locate(port, rec, ipa)
    except memory.EmptyError:
        pass
    else:
        port.bus.write(Pas.REALM, where + _HOST_CALL_GPRS_OFFSET, _GPRS.pack(*gprs))
    rec.host_call_ipa = None
    rec.ctx.x[0:4] = [_SUCCESS, 0, 0, 0]


COMMANDS: Final[tuple[Command, ...]] = (rmi_command(Rmi.REC_ENTER, rec_enter),)
