"""REC exits: the record that the Host reads, and nothing else of the Realm (spec: rec-run sections 2.2, 4, 9, 12)."""

import struct
from typing import TYPE_CHECKING, Final

from realmkit.arch import timer
from realmkit.arch.events import RecExited
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import REC_EXIT_OFFSET, ExitReason, RecExit, Rmi, Status, pack_status
from realmkit.machine.port import El2Port, ExternalAbort, GranuleProtectionFault
from realmkit.rmm.dispatch import complete
from realmkit.rmm.execution import lists
from realmkit.rmm.state import Rec, RipasRequest

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_REC_ENTER: Final = int(Rmi.REC_ENTER)
_NS: Final = Pas.NS
_PLAIN: Final = struct.Struct("<Q 248x 3Q 232x Q 392x Q 104x 4Q 992x")
"""RmiRecExit of most exits: reason, syndrome, one register, ICH_VMCR and timers, and all the rest is zero."""
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
    ich, request = ctx.ich, rec.ripas
    now = port.now()
    timers = timer.timers(ctx.read, now)
    if len(gprs) > 1 or imm or request is not None or lists.are_used(ich):
        record = _any_record(reason, (esr, far, hpfar), gprs, lists.save(ich), timers, request, imm)
    else:
        record = _PLAIN.pack(reason, esr, far, hpfar, gprs[0] if gprs else 0, ich.vmcr, *timers)
        lists.switch_off(ich)
    rec.timer_masks = timer.masks(timers)
    rec.running = False
    del rmm.running[port.index]
    if port.events.active:
        fields = RecExit.unpack(record).describe() if port.events.detailed else {}
        port.events.emit(RecExited(now, port.index, rec.pa, reason.name, fields))
    command, arguments = rmm.commands[_REC_ENTER], (rec.pa, rec.run_ptr)
    try:
        port.bus.write(_NS, rec.run_ptr + REC_EXIT_OFFSET, record)
    except (GranuleProtectionFault, ExternalAbort):
        complete(rmm, port, command, arguments, pack_status(Status.ERROR_INPUT), (), "run_pas")
        return
    complete(rmm, port, command, arguments, 0)


def _any_record(
    reason: ExitReason,
    syndrome: tuple[int, int, int],
    gprs: tuple[int, ...],
    gic: tuple[int, ...],
    timers: timer.Timers,
    request: RipasRequest | None,
    imm: int,
) -> bytes:
    """RmiRecExit with whatever an exit may report."""
    record = bytearray(RecExit.SIZE)
    record[0] = reason
    _SYNDROME.pack_into(record, 0x100, *syndrome)
    _GPRS[len(gprs)].pack_into(record, 0x200, *gprs)
    _GIC.pack_into(record, 0x300, *gic)
    _TIMERS.pack_into(record, 0x400, *timers)
    if request is not None:
        _RIPAS.pack_into(record, 0x500, request.addr, request.top, request.value)
    _IMM.pack_into(record, 0x600, imm)
    return bytes(record)


def resume(rmm: "Rmm", port: El2Port, rec: Rec) -> None:
    """Let the Realm go on, or begin, after the RMM has done its part; the caller must return at once.

    A timer whose output has changed since the last exit is an exit of its own: a virtual interrupt has to become
    pending or idle. The line of one that the Host knows of is masked: nothing else would tell that it is idle again.
    """
    if timer.masks(timer.timers(rec.ctx.read, port.now())) == rec.timer_masks:
        port.enter(rec.ctx)
    else:
        leave(rmm, port, rec, ExitReason.IRQ)
