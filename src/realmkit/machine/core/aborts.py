"""Fills that failed: aborts with their syndromes, and accesses to what is not RAM (Arm ARM D1.3.3, D24.2.40)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from realmkit.arch.esr import FSC_EXTERNAL, Ec, make_esr
from realmkit.arch.smccc import MASK64
from realmkit.machine.core import exceptions
from realmkit.machine.core.engine import stack_name
from realmkit.machine.core.registers import PAN
from realmkit.machine.insn import LoadStore, Operation, decode_access
from realmkit.machine.port import ExceptionKind, ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Fault, Kind, Mapping

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_REPEATS = 1000
"""Equal aborts in a row after which code that handles none of them is given up."""
_NO_FAULT = (0, 0, 0)


def serve(cpu: Cpu, page: int, kind: Kind, found: Fault | Mapping) -> None:
    """Serve the failed fill of ``page``: an abort, or an access to something that is not RAM.

    The context is current; it goes on where it says, unless the run has been stopped.
    """
    ctx = cpu.ctx
    if kind is Kind.EXECUTE:
        _abort(cpu, found if isinstance(found, Fault) else Fault(FSC_EXTERNAL, 1, ctx.pc, kind), ctx.pc, 0)
        return
    word = cpu.word()
    access, iss = (None, 0) if word is None else _decoded(word)
    va = page if access is None else access.fault_address(_address(cpu, access), page)
    if isinstance(found, Mapping):
        _device_access(cpu, access, found, va)
        return
    if access is not None and access.operation is Operation.ATOMIC:
        found = _reading(cpu, va) or found
    _abort(cpu, found, va, iss)


@lru_cache(maxsize=1024)
def _decoded(word: int) -> tuple[LoadStore | None, int]:
    """The access of an instruction, and what a syndrome says of it: instructions that abort do so again and again."""
    access = decode_access(word)
    return access, 0 if access is None else access.iss()


def _address(cpu: Cpu, access: LoadStore) -> int:
    """Effective address; the stack pointer is asked for only where it is the base."""
    ctx = cpu.ctx
    return access.address(ctx.x, cpu.engine.sp() if access.rn == 31 else 0, ctx.pc)


def _reading(cpu: Cpu, va: int) -> Fault | None:
    """The fault that reading would take: the one that an atomic reports first (WnR = 0)."""
    pstate, controls = cpu.controls()
    access = Access(Kind.READ, bool(pstate >> 2 & 3), bool(pstate & PAN))
    found = cpu.services.mmu(cpu.state).translate(controls, va, access)
    return found if isinstance(found, Fault) else None


def _device_access(cpu: Cpu, access: LoadStore | None, device: Mapping, va: int) -> None:
    """A load or store to something that is not RAM, done on the bus."""
    ctx = cpu.ctx
    pa = device.pa | va & 0xFFF
    if access is None or not access.emulated:
        _external_abort(cpu, va, access)
        return
    bus = cpu.services.bus(cpu.state)
    registers = (access.rt,) if access.rt2 is None else (access.rt, access.rt2)
    size = access.nbytes
    try:
        for n, rt in enumerate(registers):
            if access.write:
                value = 0 if rt == 31 else ctx.x[rt]
                bus.write(device.pas, pa + n * size, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
            else:
                data = bus.read(device.pas, pa + n * size, size)
                if rt != 31:
                    ctx.x[rt] = access.loaded(int.from_bytes(data, "little"))
    except ExternalAbort:
        cpu.services.missing_device(pa, size, access.write, ctx.pc, access.rt)
        _external_abort(cpu, va, access)
        return
    except GranuleProtectionFault:
        _external_abort(cpu, va, access)
        return
    if access.indexed:
        write_back(cpu, access)
    ctx.pc = ctx.pc + 4 & MASK64


def write_back(cpu: Cpu, access: LoadStore) -> None:
    """Update the base register of an access that has been completed here."""
    ctx = cpu.ctx
    if access.rn == 31:
        cpu.engine.write_register(stack_name(ctx.pstate), access.base_after(cpu.engine.sp(), ctx.x.__getitem__))
    else:
        ctx.x[access.rn] = access.base_after(ctx.x[access.rn], ctx.x.__getitem__)


def _external_abort(cpu: Cpu, va: int, access: LoadStore | None) -> None:
    write = access is not None and access.write
    target = exceptions.target_of(cpu)
    ec = Ec.DABT_SAME if cpu.el() == target else Ec.DABT_LOWER
    exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(ec, FSC_EXTERNAL | int(write) << 6), va)


def _abort(cpu: Cpu, fault: Fault, va: int, described: int) -> None:
    """Instruction or data abort, to EL1 or EL2; ``described`` are the bits of a syndrome that tell of the access."""
    fetch = fault.kind is Kind.EXECUTE
    iss = fault.fsc | int(fault.s1ptw) << 7
    if fault.kind is Kind.WRITE:
        iss |= 1 << 6
    if fault.stage == 2 and not fault.s1ptw:
        iss |= described
    _watch_repeats(cpu, va, fault.fsc)
    lower = make_esr(Ec.IABT_LOWER if fetch else Ec.DABT_LOWER, iss)
    if fault.stage == 2:
        exceptions.to_el2(cpu, lower, va, fault.ipa >> 12 << 4)
        return
    target = exceptions.target_of(cpu)
    if fault.gpf and target == 1 and not cpu.python_el2 and cpu.ctx.read("HCR_EL2") >> 48 & 1:
        exceptions.to_el2(cpu, lower, va, fault.ipa >> 12 << 4)
        return
    if cpu.el() == target:
        exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(Ec.IABT_SAME if fetch else Ec.DABT_SAME, iss), va)
    else:
        exceptions.enter(cpu, target, ExceptionKind.SYNC, lower, va)


def _watch_repeats(cpu: Cpu, va: int, fsc: int) -> None:
    """An image whose vectors fault at once would run for ever without executing anything."""
    if cpu.python_el2:
        cpu.last_fault = _NO_FAULT
        return
    key = (cpu.ctx.pc, va, fsc)
    if key != cpu.last_fault:
        cpu.last_fault, cpu.repeats = key, 0
        return
    cpu.repeats += 1
    if cpu.repeats > _REPEATS:
        cpu.die(f"exception loop: the abort at PC {cpu.ctx.pc:#x} for address {va:#x} never ends")
