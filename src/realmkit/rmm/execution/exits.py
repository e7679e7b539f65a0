"""REC exits: the record that the Host reads, and nothing else of the Realm (spec: rec-run sections 2.2, 4, 9, 12)."""

import struct
from typing import TYPE_CHECKING, Final

from realmkit.arch.events import RecExited
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import REC_EXIT_OFFSET, ExitReason, RecExit, Rmi, Status, pack_status
from realmkit.machine.port import CpuContext, El2Port, ExternalAbort, GranuleProtectionFault
from realmkit.rmm.dispatch import complete
from realmkit.rmm.execution import lists
from realmkit.rmm.execution.registers import CNTPMASK, CNTVMASK
from realmkit.rmm.state import Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_REC_ENTER: Final = int(Rmi.REC_ENTER)
_NS: Final = Pas.NS
_SIZE: Final = RecExit.SIZE
_ENABLE, _IMASK, _ISTATUS = 1, 2, 4
_ASSERTED: Final = _ENABLE | _ISTATUS
_SYNDROME: Final = struct.Struct("<3Q")
_GPRS: Final = tuple(struct.Struct(f"<{count}Q") for count in range(32))
_GIC: Final = struct.Struct("<19Q")
_TIMERS: Final = struct.Struct("<4Q")
_RIPAS: Final = struct.Struct("<QQB")
_IMM: Final = struct.Struct("<H")


def leave(
    rmm: "Rmm",
    port: El2Port,
    rec: Rec,
    reason: ExitReason,
    *,
    esr: int = 0,
    far: int = 0,
    hpfar: int = 0,
    gprs: tuple[int, ...] = (),
    imm: int = 0,
) -> None:
    """End the run of a REC: write RmiRecExit and complete RMI_REC_ENTER; the caller must return at once.

    Fields that are not given are zero, except GIC and timer state, which every exit reports. A granule protection
    fault at the record is the condition ``run_pas`` of RMI_REC_ENTER: the Realm has run all the same.
    """
    ctx = rec.ctx
    record = bytearray(_SIZE)
    record[0] = reason
    if esr:
        _SYNDROME.pack_into(record, 0x100, esr, far, hpfar)
    if gprs:
        _GPRS[len(gprs)].pack_into(record, 0x200, *gprs)
    _GIC.pack_into(record, 0x300, *lists.save(ctx.ich))
    now = port.now()
    timers = _timers(ctx, now)
    _TIMERS.pack_into(record, 0x400, *timers)
    rec.timer_masks = (CNTPMASK if timers[0] == _ASSERTED else 0) | (CNTVMASK if timers[2] == _ASSERTED else 0)
    request = rec.ripas
    if request is not None:
        _RIPAS.pack_into(record, 0x500, request.addr, request.top, request.value)
    if imm:
        _IMM.pack_into(record, 0x600, imm)
    rec.running = False
    del rmm.running[port.index]
    if port.events.active:
        fields = RecExit.unpack(bytes(record)).describe() if port.events.detailed else {}
        port.events.emit(RecExited(now, port.index, rec.pa, reason.name, fields))
    command, arguments = rmm.commands[_REC_ENTER], (rec.pa, rec.run_ptr)
    try:
        port.bus.write(_NS, rec.run_ptr + REC_EXIT_OFFSET, bytes(record))
    except (GranuleProtectionFault, ExternalAbort):
        complete(rmm, port, command, arguments, pack_status(Status.ERROR_INPUT), (), "run_pas")
        return
    complete(rmm, port, command, arguments, 0)


def resume(rmm: "Rmm", port: El2Port, rec: Rec) -> None:
    """Let the Realm go on, or begin, after the RMM has done its part; the caller must return at once.

    A timer whose output has changed since the last exit is an exit of its own: a virtual interrupt has to become
    pending or idle. The line of one that the Host knows of is masked: nothing else would tell that it is idle again.
    """
    if _asserted(rec.ctx, port.now()) == rec.timer_masks:
        port.enter(rec.ctx)
    else:
        leave(rmm, port, rec, ExitReason.IRQ)


def _timers(ctx: CpuContext, now: int) -> tuple[int, int, int, int]:
    """CNTP_CTL, CNTP_CVAL, CNTV_CTL, CNTV_CVAL as the Realm would read them; both offsets are zero."""
    read = ctx.read
    cntp_ctl, cntp_cval = read("CNTP_CTL_EL0") & (_ENABLE | _IMASK), read("CNTP_CVAL_EL0")
    cntv_ctl, cntv_cval = read("CNTV_CTL_EL0") & (_ENABLE | _IMASK), read("CNTV_CVAL_EL0")
    if cntp_ctl & _ENABLE and now >= cntp_cval:
        cntp_ctl |= _ISTATUS
    if cntv_ctl & _ENABLE and now >= cntv_cval:
        cntv_ctl |= _ISTATUS
    return cntp_ctl, cntp_cval, cntv_ctl, cntv_cval


def _asserted(ctx: CpuContext, now: int) -> int:
    """CNTHCTL_EL2 bits that mask the timers whose output is asserted."""
    read = ctx.read
    masks = 0
    if read("CNTP_CTL_EL0") & (_ENABLE | _IMASK) == _ENABLE and now >= read("CNTP_CVAL_EL0"):
        masks = CNTPMASK
    if read("CNTV_CTL_EL0") & (_ENABLE | _IMASK) == _ENABLE and now >= read("CNTV_CVAL_EL0"):
        masks |= CNTVMASK
    return masks
