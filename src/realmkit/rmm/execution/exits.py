"""REC exits: the record that the Host reads, and nothing else of the Realm (spec: rec-run sections 2.2, 4, 12)."""

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

_ENABLE, _IMASK, _ISTATUS = 1, 2, 4
_SYNDROME: Final = struct.Struct("<3Q")
_GIC: Final = struct.Struct("<19Q")
_TIMERS: Final = struct.Struct("<4Q")
_RIPAS: Final = struct.Struct("<QQB")


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

    Fields that are not given are zero, except GIC and timer state, which every exit reports.
    """
    ctx = rec.ctx
    record = bytearray(RecExit.SIZE)
    record[0] = reason
    if esr:
        _SYNDROME.pack_into(record, 0x100, esr, far, hpfar)
    if gprs:
        struct.pack_into(f"<{len(gprs)}Q", record, 0x200, *gprs)
    hcr, lrs, misr, vmcr = lists.reported(ctx.ich)
    _GIC.pack_into(record, 0x300, hcr, *lrs, misr, vmcr)
    ctx.ich.hcr = 0
    now = port.now()
    virtual, physical = _control(ctx, "CNTV", now), _control(ctx, "CNTP", now)
    _TIMERS.pack_into(record, 0x400, physical, ctx.read("CNTP_CVAL_EL0"), virtual, ctx.read("CNTV_CVAL_EL0"))
    rec.timer_masks = (CNTVMASK if virtual == _ENABLE | _ISTATUS else 0) | (
        CNTPMASK if physical == _ENABLE | _ISTATUS else 0
    )
    if reason is ExitReason.RIPAS_CHANGE and rec.ripas is not None:
        _RIPAS.pack_into(record, 0x500, rec.ripas.addr, rec.ripas.top, rec.ripas.value)
    else:
        rec.ripas = None
    record[0x600:0x602] = imm.to_bytes(2, "little")
    rec.running = False
    rmm.running.pop(port.index, None)
    arguments = (rec.pa, rec.run_ptr)
    command = rmm.commands[Rmi.REC_ENTER]
    if port.events.active:
        fields = RecExit.unpack(bytes(record)).describe()
        port.events.emit(RecExited(now, port.index, rec.pa, reason.name, fields))
    try:
        port.bus.write(Pas.NS, rec.run_ptr + REC_EXIT_OFFSET, bytes(record))
    except (GranuleProtectionFault, ExternalAbort):
        complete(rmm, port, command, arguments, pack_status(Status.ERROR_INPUT), (), "run_pas")
        return
    complete(rmm, port, command, arguments, 0)


def _control(ctx: CpuContext, timer: str, now: int) -> int:
    """CTL of a timer with ISTATUS."""
    value = ctx.read(f"{timer}_CTL_EL0") & (_ENABLE | _IMASK)
    if value & _ENABLE and now >= ctx.read(f"{timer}_CVAL_EL0"):
        value |= _ISTATUS
    return value
