"""Exception entry: to EL1 or EL2 inside a context, or to Python software at EL2 or EL3 (Arm ARM D1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import Ec, exception_class, make_esr
from realmkit.arch.events import ExceptionTaken
from realmkit.arch.time import CHARGE_EXIT
from realmkit.machine.core.registers import HCR_TGE, PAN, PSTATE_KEPT
from realmkit.machine.port import ExceptionInfo, ExceptionKind

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_OFFSETS: Final = {
    ExceptionKind.SYNC: 0,
    ExceptionKind.IRQ: 0x80,
    ExceptionKind.FIQ: 0x100,
    ExceptionKind.SERROR: 0x180,
}
_EL1_OFFSETS: Final = {kind: (0x400 + offset, offset, 0x200 + offset) for kind, offset in _OFFSETS.items()}
_EL1H: Final = 0x3C5
_EL2H: Final = 0x3C9
"""PSTATE of exception entry: DAIF set, own stack pointer."""
_VECTOR_SIZE: Final = 0x80
_VECTOR_FAULTS: Final = 64
"""Exceptions in a row that vectors may take themselves: a handler without a stack never ends."""
_STUCK: Final = 30
"""How many such exceptions one counts for that the first instruction of a vector takes."""


def enter(cpu: Cpu, target: int, kind: ExceptionKind, esr: int = 0, far: int | None = None) -> None:
    """Take an exception inside the context, to EL1 or to EL2 of an image; PC is the preferred return address."""
    ctx = cpu.ctx
    source = cpu.el()
    if not 0 <= ctx.pc - cpu.vector < _VECTOR_SIZE:
        cpu.cause, cpu.vector_faults = (ctx.pc, ctx.pstate, esr, far or 0), 0
    elif kind is ExceptionKind.SYNC and source == target == 2:
        cpu.vector_faults += _STUCK if ctx.pc == cpu.vector else 1
        if cpu.vector_faults > _VECTOR_FAULTS:
            _unhandled(cpu)
            return
    _report(cpu, source, target, kind, esr, far or 0)
    if target == 1:
        syndrome = esr if kind is ExceptionKind.SYNC or kind is ExceptionKind.SERROR else None
        cpu.enter_el1(ctx.pstate & (PSTATE_KEPT | PAN) | _EL1H, _EL1_OFFSETS[kind], syndrome, far)
    else:
        _enter_el2(cpu, source, kind, esr, far)
    cpu.vector = ctx.pc


def _enter_el2(cpu: Cpu, source: int, kind: ExceptionKind, esr: int, far: int | None) -> None:
    ctx = cpu.ctx
    ctx.write("ELR_EL2", ctx.pc)
    ctx.write("SPSR_EL2", ctx.pstate)
    if kind is ExceptionKind.SYNC or kind is ExceptionKind.SERROR:
        ctx.write("ESR_EL2", esr)
    if far is not None:
        ctx.write("FAR_EL2", far)
    base = 0x400 if source < 2 else (0x200 if ctx.pstate & 1 else 0)
    ctx.pc = (ctx.read("VBAR_EL2") & ~0x7FF) + base + _OFFSETS[kind]
    ctx.pstate = ctx.pstate & (PSTATE_KEPT | PAN) | _EL2H


def _unhandled(cpu: Cpu) -> None:
    """The vectors take exceptions themselves, for ever: stop where it began."""
    ctx = cpu.ctx
    pc, pstate, esr, far = cpu.cause
    vector = ctx.pc
    ctx.pc, ctx.pstate = pc, pstate
    for name, value in (("ELR_EL2", pc), ("SPSR_EL2", pstate), ("ESR_EL2", esr), ("FAR_EL2", far)):
        ctx.write(name, value)
    cpu.die(
        f"an exception that nothing handles: {describe(esr)} at PC {pc:#x}, address {far:#x}; "
        f"its vector takes exceptions itself, at {vector:#x}"
    )


def describe(esr: int) -> str:
    """The class of an exception in words."""
    number = exception_class(esr)
    try:
        name = Ec(number).name
    except ValueError:
        name = "unknown class"
    return f"{name} (ESR {esr:#x})"


def undefined(cpu: Cpu) -> None:
    """The instruction at PC is UNDEFINED."""
    enter(cpu, target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.UNKNOWN))


def target_of(cpu: Cpu) -> int:
    """Where a synchronous exception goes that no trap diverts."""
    el = cpu.el()
    if el == 2 or (not cpu.python_el2 and el == 0 and cpu.ctx.read("HCR_EL2") & HCR_TGE):
        return 2
    return 1


def to_software(cpu: Cpu, exc: ExceptionInfo, target: int) -> bool:
    """Give an exception to Python software: whether the context goes on at once."""
    ctx = cpu.ctx
    kind, esr, far, hpfar = exc
    if target == 2:
        # No engine holds EL2 registers of a context whose EL2 is Python software.
        regs = ctx.regs
        regs["ESR_EL2"], regs["FAR_EL2"], regs["HPFAR_EL2"] = esr, far, hpfar
    _report(cpu, ctx.pstate >> 2 & 3, target, kind, esr, far)
    cpu.time += CHARGE_EXIT
    if cpu.services.trap(cpu, ctx, exc, target):
        return True
    cpu.leave()
    return False


def to_el2(cpu: Cpu, esr: int, far: int = 0, hpfar: int = 0) -> bool:
    """A synchronous exception for EL2: Python software, or the image's own. Whether the context goes on at once."""
    if cpu.python_el2:
        return to_software(cpu, ExceptionInfo(ExceptionKind.SYNC, esr, far, hpfar), 2)
    cpu.ctx.write("HPFAR_EL2", hpfar)
    enter(cpu, 2, ExceptionKind.SYNC, esr, far)
    return True


def _report(cpu: Cpu, source: int, target: int, kind: ExceptionKind, esr: int, far: int) -> None:
    ctx, services, state = cpu.ctx, cpu.services, cpu.state
    x = tuple(ctx.x[:5]) if target == 3 else ()
    services.history.append((cpu.time, cpu.index, state, source, target, kind, esr, far, ctx.pc, x))
    events = services.events
    if events.active:
        events.emit(ExceptionTaken(cpu.time, cpu.index, state.name, source, target, kind.value, esr, far, ctx.pc))
