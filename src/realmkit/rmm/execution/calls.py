"""SMCs of a Realm: RSI, PSCI, SMCCC discovery (spec: rsi, rec-run section 11)."""

from typing import TYPE_CHECKING

from realmkit.arch import psci, smccc
from realmkit.arch.events import Call
from realmkit.arch.rsi import INPUTS, OUTPUTS, Rsi, RsiStatus
from realmkit.arch.smccc import MASK64, NOT_SUPPORTED
from realmkit.arch.time import CHARGE_RSI
from realmkit.machine.port import El2Port
from realmkit.rmm.execution import psci_calls, rsi
from realmkit.rmm.execution.memory import EmptyError, NotMappedError, leave_for_page
from realmkit.rmm.execution.rsi import RsiRefusal
from realmkit.rmm.state import Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm


def on_smc(rmm: "Rmm", port: El2Port, rec: Rec) -> None:
    """Serve the SMC at PC."""
    port.charge(CHARGE_RSI)
    ctx = rec.ctx
    fid = ctx.x[0] & 0xFFFF_FFFF & ~smccc.SVE_HINT
    if fid in smccc.RSI_RANGE:
        _serve_rsi(rmm, port, rec, fid)
        return
    ctx.pc = ctx.pc + 4 & MASK64
    if fid in psci.NAMES or fid in smccc.PSCI32_RANGE or fid in smccc.PSCI64_RANGE:
        psci_calls.serve(rmm, port, rec, fid)
        return
    x0 = smccc.VERSION_1_2 if fid == smccc.SMCCC_VERSION else NOT_SUPPORTED
    ctx.x[0:4] = [x0, 0, 0, 0]
    port.enter(ctx)


def _serve_rsi(rmm: "Rmm", port: El2Port, rec: Rec, fid: int) -> None:
    ctx = rec.ctx
    handler = rsi.HANDLERS.get(fid)
    if handler is None:
        ctx.pc = ctx.pc + 4 & MASK64
        ctx.x[0:4] = [NOT_SUPPORTED, 0, 0, 0]
        port.enter(ctx)
        return
    arguments = tuple(ctx.x[1 : 1 + len(INPUTS[Rsi(fid)])])
    refused: str | None = None
    try:
        outcome = handler(rmm, port, rec, *arguments)
        status, outputs, leaves = outcome
    except NotMappedError as missing:
        leave_for_page(rmm, port, rec, missing)
        return
    except EmptyError:
        status, outputs, leaves, refused = RsiStatus.ERROR_INPUT, (), None, "addr_empty"
    except RsiRefusal as refusal:
        status, outputs, leaves, refused = refusal.status, refusal.outputs, None, refusal.label
    ctx.pc = ctx.pc + 4 & MASK64
    results = (int(status), *outputs, *(0,) * (3 - len(outputs)))
    ctx.x[0 : len(results)] = results
    if port.events.active:
        _report(port, Rsi(fid), arguments, status, outputs, refused)
    if leaves is None:
        port.enter(ctx)
    else:
        leaves()


def _report(
    port: El2Port,
    call: Rsi,
    arguments: tuple[int, ...],
    status: RsiStatus,
    outputs: tuple[int, ...],
    refused: str | None,
) -> None:
    port.events.emit(
        Call(
            port.now(),
            port.index,
            "rsi",
            call.name,
            int(call),
            dict(zip(INPUTS[call], arguments, strict=True)),
            int(status),
            f"RSI_{status.name}",
            dict(zip(OUTPUTS.get(call, ()), outputs, strict=False)),
            refused,
        )
    )
