"""PSCI as a Realm sees it (spec: rec-run section 11)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch import psci, smccc
from realmkit.arch.events import Call
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ExitReason, mpidr_to_index
from realmkit.arch.smccc import MASK64, signed
from realmkit.machine.port import El2Port
from realmkit.rmm.execution.exits import leave
from realmkit.rmm.state import PendingPsci, RealmState, Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_AFFINITY: Final = 0xFF_FF0F
_FEATURES: Final = frozenset(
    {
        psci.CPU_SUSPEND,
        psci.CPU_SUSPEND_32,
        psci.CPU_OFF,
        psci.CPU_ON,
        psci.CPU_ON_32,
        psci.AFFINITY_INFO,
        psci.AFFINITY_INFO_32,
        psci.SYSTEM_OFF,
        psci.SYSTEM_RESET,
        psci.FEATURES,
        smccc.SMCCC_VERSION,
    }
)
_NO_RETURN: Final = frozenset({psci.CPU_OFF, psci.SYSTEM_OFF, psci.SYSTEM_RESET})


def serve(rmm: "Rmm", port: El2Port, rec: Rec, fid: int) -> None:
    """Answer a PSCI call, here or by the Host; PC is already behind the SMC."""
    x = rec.ctx.x
    arguments = x[1:4]
    if fid in (psci.CPU_ON, psci.CPU_ON_32, psci.AFFINITY_INFO, psci.AFFINITY_INFO_32):
        answer = _request(rec, fid, *arguments)
        if answer is None:
            _report(port, fid, arguments, None)
            leave(rmm, port, rec, ExitReason.PSCI, gprs=(fid, arguments[0]))
            return
        _return(port, rec, fid, arguments, answer.x0)
    elif fid in _NO_RETURN:
        if fid == psci.CPU_OFF:
            rec.runnable = False
        else:
            rec.realm.state = RealmState.SYSTEM_OFF
        _report(port, fid, arguments, None)
        leave(rmm, port, rec, ExitReason.PSCI, gprs=(fid,))
    elif fid in (psci.CPU_SUSPEND, psci.CPU_SUSPEND_32):
        x[0:4] = [PsciStatus.SUCCESS.x0, 0, 0, 0]
        _report(port, fid, arguments, 0)
        leave(rmm, port, rec, ExitReason.PSCI, gprs=(fid,))
    elif fid == psci.VERSION:
        _return(port, rec, fid, arguments, psci.VERSION_1_1)
    elif fid == psci.FEATURES:
        known = arguments[0] & 0xFFFF_FFFF in _FEATURES
        _return(port, rec, fid, arguments, (PsciStatus.SUCCESS if known else PsciStatus.NOT_SUPPORTED).x0)
    else:
        _return(port, rec, fid, arguments, PsciStatus.NOT_SUPPORTED.x0)


def _request(rec: Rec, fid: int, target: int, second: int, third: int) -> PsciStatus | None:
    """Check CPU_ON or AFFINITY_INFO; None when the Host must complete it."""
    realm = rec.realm
    on = fid in (psci.CPU_ON, psci.CPU_ON_32)
    if fid in (psci.CPU_ON_32, psci.AFFINITY_INFO_32):
        target, second, third = target & 0xFFFF_FFFF, second & 0xFFFF_FFFF, third & 0xFFFF_FFFF
    if on and not realm.is_protected(second):
        return PsciStatus.INVALID_ADDRESS
    if not on and second != 0:
        return PsciStatus.INVALID_PARAMETERS
    if target & ~_AFFINITY & MASK64 or mpidr_to_index(target) >= realm.rec_index:
        return PsciStatus.INVALID_PARAMETERS
    if target == rec.mpidr:
        return PsciStatus.ALREADY_ON if on else PsciStatus.SUCCESS
    rec.psci_pending = PendingPsci(fid, target, second, third) if on else PendingPsci(fid, target)
    return None


def _return(port: El2Port, rec: Rec, fid: int, arguments: list[int], x0: int) -> None:
    rec.ctx.x[0:4] = [x0, 0, 0, 0]
    _report(port, fid, arguments, x0)
    port.enter(rec.ctx)


def _report(port: El2Port, fid: int, arguments: list[int], x0: int | None) -> None:
    if not port.events.active:
        return
    name = psci.NAMES.get(fid, f"PSCI_{fid:08X}")
    status = "to the Host" if x0 is None else str(signed(x0))
    named = {f"x{n}": value for n, value in enumerate(arguments, 1)}
    port.events.emit(Call(port.now(), port.index, "psci", name, fid, named, x0 or 0, status, {}))
