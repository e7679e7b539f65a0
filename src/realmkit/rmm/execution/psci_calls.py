"""PSCI as a Realm sees it (spec: rec-run section 11)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch import psci, smccc
from realmkit.arch.events import Call
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ExitReason, mpidr_to_index
from realmkit.arch.smccc import MASK64, signed
from realmkit.machine.port import El2Port
from realmkit.rmm.execution.exits import leave, resume
from realmkit.rmm.state import PendingPsci, RealmState, Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_MPIDR: Final = 0xFF_FF0F
"""Aff2, Aff1, Aff0 as far as they name a REC. Aff3 stands elsewhere in a call than in RmiRecMpidr: RECs have none."""
_SUSPEND: Final = frozenset({psci.CPU_SUSPEND, psci.CPU_SUSPEND_32})
_CPU_ON: Final = frozenset({psci.CPU_ON, psci.CPU_ON_32})
_AFFINITY_INFO: Final = frozenset({psci.AFFINITY_INFO, psci.AFFINITY_INFO_32})
_COMPLETED_BY_HOST: Final = _CPU_ON | _AFFINITY_INFO
_SYSTEM_OFF: Final = frozenset({psci.SYSTEM_OFF, psci.SYSTEM_RESET})
_SMC32: Final = smccc.PSCI32_RANGE
_FEATURES: Final = frozenset(
    {*_SUSPEND, psci.CPU_OFF, *_COMPLETED_BY_HOST, *_SYSTEM_OFF, psci.FEATURES, smccc.SMCCC_VERSION}
)


def serve(rmm: "Rmm", port: El2Port, rec: Rec, fid: int) -> None:
    """Answer a PSCI call, here or by way of the Host; PC is behind the SMC already."""
    arguments = rec.ctx.x[1:4]
    if fid in _SMC32:
        arguments = [value & 0xFFFF_FFFF for value in arguments]
    if fid in _COMPLETED_BY_HOST:
        answer = _request(rec, fid, *arguments)
        if answer is None:
            _exit(rmm, port, rec, fid, arguments, fid, arguments[0])
        else:
            _return(rmm, port, rec, fid, arguments, answer.x0)
    elif fid in _SUSPEND:
        rec.ctx.x[0:4] = [PsciStatus.SUCCESS.x0, 0, 0, 0]
        _exit(rmm, port, rec, fid, arguments, fid)
    elif fid == psci.CPU_OFF:
        rec.runnable = False
        _exit(rmm, port, rec, fid, arguments, fid)
    elif fid in _SYSTEM_OFF:
        rec.realm.state = RealmState.SYSTEM_OFF
        _exit(rmm, port, rec, fid, arguments, fid)
    elif fid == psci.VERSION:
        _return(rmm, port, rec, fid, arguments, psci.VERSION_1_1)
    elif fid == psci.FEATURES:
        known = arguments[0] & 0xFFFF_FFFF in _FEATURES
        _return(rmm, port, rec, fid, arguments, (PsciStatus.SUCCESS if known else PsciStatus.NOT_SUPPORTED).x0)
    else:
        _return(rmm, port, rec, fid, arguments, PsciStatus.NOT_SUPPORTED.x0)


def _request(rec: Rec, fid: int, target: int, second: int, third: int) -> PsciStatus | None:
    """Check CPU_ON (entry, context) or AFFINITY_INFO (level); None when it is now the Host's to complete."""
    realm = rec.realm
    starts = fid in _CPU_ON
    if starts and not realm.is_protected(second):
        return PsciStatus.INVALID_ADDRESS
    if not starts and second != 0:
        return PsciStatus.INVALID_PARAMETERS
    if target & ~_MPIDR & MASK64 or mpidr_to_index(target) >= realm.rec_index:
        return PsciStatus.INVALID_PARAMETERS
    if target == rec.mpidr:
        return PsciStatus.ALREADY_ON if starts else PsciStatus.SUCCESS
    rec.psci_pending = PendingPsci(fid, target, second, third) if starts else PendingPsci(fid, target)
    return None


def _return(rmm: "Rmm", port: El2Port, rec: Rec, fid: int, arguments: list[int], x0: int) -> None:
    """The answer goes straight back to the Realm."""
    rec.ctx.x[0:4] = [x0, 0, 0, 0]
    if port.events.active:
        _report(port, fid, arguments, x0, str(signed(x0)))
    resume(rmm, port, rec)


def _exit(rmm: "Rmm", port: El2Port, rec: Rec, fid: int, arguments: list[int], *gprs: int) -> None:
    """REC exit due to PSCI with only these registers."""
    if port.events.active:
        _report(port, fid, arguments, 0, "to the Host")
    leave(rmm, port, rec, ExitReason.PSCI, gprs=gprs)


def _report(port: El2Port, fid: int, arguments: list[int], x0: int, status: str) -> None:
    name = psci.NAMES.get(fid, f"{fid:#x}")
    named = {f"x{n}": value for n, value in enumerate(arguments, 1)}
    port.events.emit(Call(port.now(), port.index, "psci", name, fid, named, x0, status, {}))
