"""From a function identifier to a command and back to X0-X4 (spec: rmi section 1; architecture decision 4).

A command is one function under its specification name, ``handler(rmm, port, *inputs)``: it returns its outputs (X1..)
as a tuple, raises :class:`realmkit.rmm.state.Refusal` when a failure condition holds, or returns None when it has
entered a REC. In the last case whoever ends the REC's run calls :func:`complete`. Each module of commands lists its
rows in ``COMMANDS``; :mod:`realmkit.rmm.table` joins them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from realmkit.arch.events import Call
from realmkit.arch.rmi import ABI_VERSION, INPUTS, OUTPUTS, ReturnCode, Rmi, pack_status
from realmkit.arch.smccc import NOT_SUPPORTED, RMI_REQ_COMPLETE, SVE_HINT
from realmkit.arch.time import CHARGE_RMI
from realmkit.machine.port import El2Port
from realmkit.rmm.state import Refusal

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

Handler = Callable[..., "tuple[int, ...] | None"]

_FID_MASK: Final = ~SVE_HINT


class Command(NamedTuple):
    """One row of the command table."""

    fid: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    handler: Handler
    end: int
    """Index of the register after the last input."""
    abi_version: int


def rmi_command(fid: Rmi, handler: Handler, abi_version: int = ABI_VERSION) -> Command:
    """The row of an RMI command, with the names of its inputs and outputs from :mod:`realmkit.arch.rmi`."""
    inputs = INPUTS[fid]
    return Command(fid, fid.name, inputs, OUTPUTS.get(fid, ()), handler, 1 + len(inputs), abi_version)


def dispatch(rmm: "Rmm", port: El2Port, x: Sequence[int]) -> None:
    """Serve the RMI call in X0-X7, and complete it unless it has entered a REC."""
    port.charge(CHARGE_RMI)
    command = rmm.commands.get(x[0] & _FID_MASK)
    if command is None:
        _unknown(port, x[0])
        return
    arguments = x[1 : command.end]
    try:
        outputs = command.handler(rmm, port, *arguments)
    except Refusal as refusal:
        x0 = pack_status(refusal.status, refusal.index)
        complete(rmm, port, command, arguments, x0, refusal.outputs, refusal.label)
        return
    if outputs is None:
        return
    if port.events.active:
        complete(rmm, port, command, arguments, 0, outputs)
    else:
        port.refusal = None
        port.smc(RMI_REQ_COMPLETE, 0, *outputs)


def complete(
    rmm: "Rmm",
    port: El2Port,
    command: Command,
    arguments: Sequence[int],
    x0: int,
    outputs: tuple[int, ...] = (),
    refused: str | None = None,
) -> None:
    """Return to the Host with ``x0`` and ``outputs`` in X1..X4 (the rest zero); the caller must return at once.

    ``refused`` is the label of the condition that failed.
    """
    port.refusal = refused
    events = port.events
    if events.active:
        detail, rmm.detail = rmm.detail, {}
        named: dict[str, int] = {}
        results: dict[str, int] = {}
        if events.detailed:
            named = dict(zip(command.inputs, arguments, strict=True))
            results = dict(zip(command.outputs, outputs, strict=False))
        name, fid, status = command.name, command.fid, _in_words(x0)
        events.emit(Call(port.now(), port.index, "rmi", name, fid, named, x0, status, results, refused, detail))
    port.smc(RMI_REQ_COMPLETE, x0, *outputs)


@lru_cache(maxsize=64)
def _in_words(x0: int) -> str:
    return str(ReturnCode.unpack(x0))


def _unknown(port: El2Port, fid: int) -> None:
    """A function identifier of the RMI range that no command has."""
    port.refusal = "unknown_function"
    if port.events.active:
        name = f"{fid & _FID_MASK:#x}"
        port.events.emit(
            Call(port.now(), port.index, "rmi", name, fid, {}, NOT_SUPPORTED, "NOT_SUPPORTED", {}, "unknown_function")
        )
    port.smc(RMI_REQ_COMPLETE, NOT_SUPPORTED)
