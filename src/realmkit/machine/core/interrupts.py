"""Interrupts of a context: physical, virtual from list registers, and the virtual lines of HCR_EL2 (Arm ARM D1.3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import Ec, make_esr
from realmkit.arch.gic import GROUP0
from realmkit.machine.context import CpuContext
from realmkit.machine.core import exceptions
from realmkit.machine.core.registers import HCR_FMO, HCR_IMO, HCR_TGE, HCR_VF, HCR_VI, HCR_VSE
from realmkit.machine.port import ExceptionInfo, ExceptionKind

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_F, _I, _A = 1 << 6, 1 << 7, 1 << 8
_LEVEL: Final = 0xC
"""PSTATE.EL: what is pending for a lower level is masked by being at a higher one."""
_LINES: Final = HCR_VF | HCR_VI | HCR_VSE


def wakes(cpu: Cpu, ctx: CpuContext) -> bool:
    """Whether an interrupt is pending that ends WFI."""
    return cpu.services.physical.interrupted() or _is_virtual_pending(cpu, ctx)


def takes(cpu: Cpu, ctx: CpuContext, python_el2: bool) -> bool:
    """Whether an interrupt is pending that is not masked: what gets code out of a loop of nothing."""
    physical = cpu.services.physical
    el, hcr = ctx.pstate >> 2 & 3, ctx.read("HCR_EL2")
    for signal, mask, route in ((physical.fiq_pending(), _F, HCR_FMO), (physical.irq_pending(), _I, HCR_IMO)):
        target = 2 if el == 2 or hcr & (route | HCR_TGE) else 1
        if signal and (python_el2 or el < target or not ctx.pstate & mask):
            return True
    if el == 2:
        return False
    if ctx.ich.hcr & 1:
        virtual = cpu.services.virtual(ctx)
        if (virtual.vfiq_pending() and not ctx.pstate & _F) or (virtual.virq_pending() and not ctx.pstate & _I):
            return True
    return any(hcr & line and not ctx.pstate & mask for line, mask in ((HCR_VSE, _A), (HCR_VF, _F), (HCR_VI, _I)))


def take(cpu: Cpu) -> int:
    """Take what is pending and not masked; gives the bits of PSTATE that mask what stays pending."""
    while (waiting := _take_one(cpu)) is None:
        if cpu.has_ended:
            return 0
    return waiting


def _take_one(cpu: Cpu) -> int | None:
    """None when an interrupt was taken, else the bits of PSTATE that mask what is pending."""
    waiting = _physical(cpu)
    ctx = cpu.ctx
    if waiting is None:
        return None
    if cpu.el() >= 2:
        return waiting | _LEVEL if _is_virtual_pending(cpu, ctx) else waiting
    if ctx.ich.hcr & 1:
        group = cpu.services.virtual(ctx).signalled()
        if group is not None:
            kind, mask = (ExceptionKind.FIQ, _F) if group == GROUP0 else (ExceptionKind.IRQ, _I)
            if not ctx.pstate & mask:
                exceptions.enter(cpu, 1, kind)
                cpu.resume()
                return None
            waiting |= mask
    lines = _lines(cpu)
    return None if lines is None else waiting | lines


def _is_virtual_pending(cpu: Cpu, ctx: CpuContext) -> bool:
    """Whether EL1 or EL0 would have a virtual interrupt."""
    if ctx.ich.hcr & 1 and cpu.services.virtual(ctx).signalled() is not None:
        return True
    return bool(ctx.read("HCR_EL2") & _LINES)


def _physical(cpu: Cpu) -> int | None:
    """Physical interrupts: what masks those that stay pending, None when one was taken."""
    physical = cpu.services.physical
    if not physical.interrupted():
        return 0
    ctx = cpu.ctx
    waiting = 0
    for kind, signal, mask, route in (
        (ExceptionKind.FIQ, physical.fiq_pending(), _F, HCR_FMO),
        (ExceptionKind.IRQ, physical.irq_pending(), _I, HCR_IMO),
    ):
        if not signal:
            continue
        if cpu.python_el2:
            if not exceptions.to_software(cpu, ExceptionInfo(kind), 2):
                return None
            cpu.resume()
            continue
        el = cpu.el()
        target = 2 if el == 2 or ctx.read("HCR_EL2") & (route | HCR_TGE) else 1
        if el < target or not ctx.pstate & mask:
            exceptions.enter(cpu, target, kind)
            cpu.resume()
            return None
        waiting |= mask
    return waiting


def _lines(cpu: Cpu) -> int | None:
    """HCR_EL2.VSE, VF, VI: what masks those that stay pending, None when one was taken."""
    ctx = cpu.ctx
    hcr = ctx.read("HCR_EL2")
    if not hcr & _LINES:
        return 0
    if hcr & HCR_VSE and not ctx.pstate & _A:
        ctx.write("HCR_EL2", hcr & ~HCR_VSE)
        exceptions.enter(cpu, 1, ExceptionKind.SERROR, make_esr(Ec.SERROR))
    elif hcr & HCR_VF and not ctx.pstate & _F:
        exceptions.enter(cpu, 1, ExceptionKind.FIQ)
    elif hcr & HCR_VI and not ctx.pstate & _I:
        exceptions.enter(cpu, 1, ExceptionKind.IRQ)
    else:
        return sum(mask for line, mask in ((HCR_VSE, _A), (HCR_VF, _F), (HCR_VI, _I)) if hcr & line)
    cpu.resume()
    return None
