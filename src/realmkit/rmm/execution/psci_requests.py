"""Completion of PSCI requests by the Host (spec: rec-run section 11.2)."""

from typing import Final

from realmkit.arch import psci
from realmkit.arch.psci import PsciStatus
from realmkit.machine.port import PSTATE_RESET_EL1
from realmkit.rmm.execution.registers import SCTLR_EE, SCTLR_EL1_RESET
from realmkit.rmm.state import PendingPsci, Rec

CPU_ON: Final = frozenset({psci.CPU_ON, psci.CPU_ON_32})


def is_permitted(request: PendingPsci, target: Rec, status: int) -> bool:
    """Whether the Host may answer with ``status``."""
    if status == PsciStatus.SUCCESS:
        return True
    return status == PsciStatus.DENIED and request.fid in CPU_ON and not target.runnable


def complete(calling: Rec, target: Rec, status: PsciStatus) -> None:
    """Give the caller its result and, for CPU_ON, start the target."""
    request = calling.psci_pending
    assert request is not None
    on = target.runnable
    if request.fid not in CPU_ON:
        result = PsciStatus.SUCCESS if on else PsciStatus.OFF
    elif status is PsciStatus.DENIED:
        result = PsciStatus.DENIED
    elif on:
        result = PsciStatus.ALREADY_ON
    else:
        result = PsciStatus.SUCCESS
        _start(calling, target, request)
    calling.psci_pending = None
    calling.ctx.x[0:4] = [result.x0, 0, 0, 0]


def _start(calling: Rec, target: Rec, request: PendingPsci) -> None:
    """The target begins at the entry point, as after reset, with the caller's endianness."""
    ctx = target.ctx
    ctx.x[:] = [request.context_id, *[0] * 30]
    ctx.pc = request.entry
    ctx.pstate = PSTATE_RESET_EL1
    ctx.write("SCTLR_EL1", SCTLR_EL1_RESET | calling.ctx.read("SCTLR_EL1") & SCTLR_EE)
    target.runnable = True
