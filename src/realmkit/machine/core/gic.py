"""ICC_* and ICH_* accesses of running code (Arm IHI 0069, chapter 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.gic import ICH_HCR
from realmkit.devices.gic import vtr
from realmkit.machine.core import exceptions
from realmkit.machine.core.registers import HCR_FMO, HCR_IMO
from realmkit.machine.insn import SystemAccess

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

_SGI_REGISTERS: Final = frozenset({"ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1"})
_TDIR: Final = ICH_HCR.mask("TDIR")
_PRIORITIES: Final = {f"ICH_AP{group}R{n}_EL2": (group, n) for group in (0, 1) for n in range(4)}
_LISTS: Final = {f"ICH_LR{n}_EL2": n for n in range(16)}


def access_interface(cpu: Cpu, access: SystemAccess, name: str, syndrome: int) -> bool:
    """ICC_*: the virtual interface where EL2 redirects it, else the physical one. Whether the context goes on."""
    ctx = cpu.ctx
    if cpu.el() < 2 and (cpu.python_el2 or ctx.read("HCR_EL2") & (HCR_IMO | HCR_FMO)):
        if not access.read and (name in _SGI_REGISTERS or (name == "ICC_DIR_EL1" and ctx.ich.hcr & _TDIR)):
            return exceptions.to_el2(cpu, syndrome)
        virtual = cpu.services.virtual(ctx)
        if access.read:
            cpu.set_x(access.rt, virtual.read(name))
        else:
            virtual.write(name, cpu.get_x(access.rt))
    else:
        physical = cpu.services.physical
        cpu.services.sync(cpu)
        if access.read:
            cpu.set_x(access.rt, physical.read(name))
        else:
            physical.write(name, cpu.get_x(access.rt))
    if name in _SGI_REGISTERS:
        cpu.break_slice()
    cpu.recheck()
    cpu.skip()
    return True


def access_hypervisor(cpu: Cpu, access: SystemAccess, name: str) -> bool:
    """ICH_* at EL2."""
    if access.read:
        cpu.set_x(access.rt, _read(cpu, name))
    else:
        _write(cpu, name, cpu.get_x(access.rt))
        cpu.recheck()
    cpu.skip()
    return True


def _read(cpu: Cpu, name: str) -> int:
    ich = cpu.ctx.ich
    virtual = cpu.services.virtual(cpu.ctx)
    match name:
        case "ICH_HCR_EL2":
            return ich.hcr
        case "ICH_VTR_EL2":
            return vtr()
        case "ICH_VMCR_EL2":
            return ich.vmcr
        case "ICH_MISR_EL2":
            return virtual.misr()
        case "ICH_EISR_EL2":
            return virtual.eisr()
        case "ICH_ELRSR_EL2":
            return virtual.elrsr()
    if name in _LISTS:
        return ich.lr[_LISTS[name]]
    place = _PRIORITIES.get(name)
    return 0 if place is None else (ich.ap1r if place[0] else ich.ap0r)[place[1]]


def _write(cpu: Cpu, name: str, value: int) -> None:
    ich = cpu.ctx.ich
    if name == "ICH_HCR_EL2":
        ich.hcr = value
    elif name == "ICH_VMCR_EL2":
        ich.vmcr = value
    elif name in _LISTS:
        ich.lr[_LISTS[name]] = value
    elif name in _PRIORITIES:
        group, n = _PRIORITIES[name]
        (ich.ap1r if group else ich.ap0r)[n] = value
