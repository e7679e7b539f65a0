"""SMCs of a Realm: RSI, PSCI, SMCCC discovery (spec: rsi, rec-run section 11)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from realmkit.arch import smccc
from realmkit.arch.events import Call
from realmkit.arch.rsi import INPUTS, OUTPUTS, Rsi, RsiStatus
from realmkit.arch.smccc import MASK64, NOT_SUPPORTED, PSCI32_RANGE, PSCI64_RANGE, RSI_RANGE
from realmkit.arch.time import CHARGE_RSI
from realmkit.machine.port import El2Port
from realmkit.rmm.execution import psci_calls, rsi
from realmkit.rmm.execution.exits import resume
from realmkit.rmm.execution.memory import EmptyError, NotMappedError, leave_for_page
from realmkit.rmm.state import Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_FID_MASK: Final = 0xFFFF_FFFF & ~smccc.SVE_HINT
_COMMANDS: Final[Mapping[int, tuple[Rsi, rsi.Handler, int]]] = MappingProxyType(
    {fid: (fid, handler, 1 + len(INPUTS[fid])) for fid, handler in rsi.HANDLERS.items()}
)
"""By function identifier: command, handler, index of the register after the last input."""


def on_smc(rmm: "Rmm", port: El2Port, rec: Rec) -> None:
    """Serve the SMC at PC."""
    port.charge(CHARGE_RSI)
    ctx = rec.ctx
    fid = ctx.x[0] & _FID_MASK
    if fid in RSI_RANGE:
        _rsi(rmm, port, rec, fid)
        return
    ctx.pc = ctx.pc + 4 & MASK64
    if fid in PSCI32_RANGE or fid in PSCI64_RANGE:
        psci_calls.serve(rmm, port, rec, fid)
        return
    ctx.x[0:4] = [smccc.VERSION_1_2 if fid == smccc.SMCCC_VERSION else NOT_SUPPORTED, 0, 0, 0]
    resume(rmm, port, rec)


def _rsi(rmm: "Rmm", port: El2Port, rec: Rec, fid: int) -> None:
    ctx = rec.ctx
    row = _COMMANDS.get(fid)
    if row is None:
        ctx.pc = ctx.pc + 4 & MASK64
        ctx.x[0:4] = [NOT_SUPPORTED, 0, 0, 0]
        if port.events.active:
            port.events.emit(
                Call(port.now(), port.index, "rsi", f"{fid:#x}", fid, {}, NOT_SUPPORTED, "NOT_SUPPORTED", {})
            )
        resume(rmm, port, rec)
        return
    command, handler, end = row
    arguments = ctx.x[1:end]
    refused: str | None = None
    try:
        status, outputs, leaves = handler(rmm, port, rec, *arguments)
    except NotMappedError as missing:
        leave_for_page(rmm, port, rec, missing)
        return
    except EmptyError:
        status, outputs, leaves, refused = RsiStatus.ERROR_INPUT, (), None, "addr_empty"
    except rsi.RsiRefusal as refusal:
        status, outputs, leaves, refused = refusal.status, refusal.outputs, None, refusal.label
    ctx.pc = ctx.pc + 4 & MASK64
    results = (int(status), *outputs, *(0,) * (3 - len(outputs)))
    ctx.x[0 : len(results)] = results
    if port.events.active:
        _report(port, command, arguments, status, outputs, refused)
    if leaves is None:
        resume(rmm, port, rec)
    else:
        leaves()


def _report(
    port: El2Port, command: Rsi, arguments: list[int], status: RsiStatus, outputs: tuple[int, ...], refused: str | None
) -> None:
    named = dict(zip(INPUTS[command], arguments, strict=True))
    results = dict(zip(OUTPUTS.get(command, ()), outputs, strict=False))
    words = f"RSI_{status.name}"
    port.events.emit(
        Call(port.now(), port.index, "rsi", command.name, int(command), named, int(status), words, results, refused)
    )
