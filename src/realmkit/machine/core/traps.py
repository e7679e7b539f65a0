"""What to do with each exception that Unicorn reports, and with hooked register accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import FSC_ALIGNMENT, ISS_SYSREG, Ec, make_esr
from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_COUNTER_READ, TICKS_PER_SECOND
from realmkit.devices.gic.virtual import vtr
from realmkit.machine.core.sysregs import NAMES, encoding
from realmkit.machine.core.timers import ENABLE, IMASK, control
from realmkit.machine.port import ExceptionInfo, ExceptionKind

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

UNDEFINED, SVC, PREFETCH_ABORT, DATA_ABORT, BREAKPOINT, HVC, SMC_TRAPPED, SMC = 1, 2, 3, 4, 7, 11, 12, 13
_WFI: Final = 0xD503_207F
_SYSTEM_MASK: Final = 0xFFC0_0000
_SYSTEM: Final = 0xD500_0000
_HCR_TWI, _HCR_TID3, _HCR_TSC, _HCR_IMO, _HCR_FMO, _HCR_TGE = 1 << 13, 1 << 18, 1 << 19, 1 << 4, 1 << 3, 1 << 27
_SGI_REGISTERS: Final = frozenset({"ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1"})


def serve(cpu: Cpu, number: int) -> bool:
    """Serve an exception; the context is current. True when the code goes on (the context says where)."""
    ctx = cpu.ctx
    if number == SMC:
        return _smc(cpu)
    if number == SVC:
        imm = _previous_immediate(cpu)
        cpu.enter_exception(cpu.exception_target(), ExceptionKind.SYNC, make_esr(Ec.SVC64, imm))
        return True
    if number == HVC:
        imm = _previous_immediate(cpu)
        if cpu.el() == 2:
            cpu.enter_exception(2, ExceptionKind.SYNC, make_esr(Ec.HVC64, imm))
            return True
        return cpu.to_el2(make_esr(Ec.HVC64, imm))
    if number == BREAKPOINT:
        word = cpu._word() or 0
        cpu.enter_exception(cpu.exception_target(), ExceptionKind.SYNC, make_esr(Ec.BRK, word >> 5 & 0xFFFF))
        return True
    if number in (DATA_ABORT, PREFETCH_ABORT):
        return _alignment(cpu, number)
    if number == SMC_TRAPPED:
        return _smc_trap(cpu)
    word = cpu._word()
    if word is None:
        cpu.undefined()
        return True
    if word == _WFI:
        return _wfi(cpu)
    if word & _SYSTEM_MASK == _SYSTEM:
        return _system(cpu, word)
    if ctx.pc & 3:
        cpu.enter_exception(cpu.exception_target(), ExceptionKind.SYNC, make_esr(Ec.PC_ALIGN), ctx.pc)
        return True
    cpu.undefined()
    return True


def _previous_immediate(cpu: Cpu) -> int:
    ctx = cpu.ctx
    ctx.pc = ctx.pc - 4 & MASK64
    word = cpu._word() or 0
    ctx.pc = ctx.pc + 4 & MASK64
    return word >> 5 & 0xFFFF


def _smc(cpu: Cpu) -> bool:
    """SMC; PC is past it. EL2 may have trapped it, otherwise it goes to EL3."""
    ctx = cpu.ctx
    if cpu.el() < 2 and ctx.read("HCR_EL2") & _HCR_TSC:
        ctx.pc = ctx.pc - 4 & MASK64
        return _smc_trap(cpu)
    return cpu.trap(ExceptionInfo(ExceptionKind.SYNC, make_esr(Ec.SMC64)), 3)


def _smc_trap(cpu: Cpu) -> bool:
    word = cpu._word() or 0
    return cpu.to_el2(make_esr(Ec.SMC64, word >> 5 & 0xFFFF))


def _alignment(cpu: Cpu, number: int) -> bool:
    """Unicorn checks alignment itself; what else reaches us here is reported the same way."""
    target = cpu.exception_target()
    same = cpu.el() == target
    if number == PREFETCH_ABORT or cpu.ctx.pc & 3:
        cpu.enter_exception(target, ExceptionKind.SYNC, make_esr(Ec.PC_ALIGN), cpu.ctx.pc)
        return True
    ec = Ec.DABT_SAME if same else Ec.DABT_LOWER
    cpu.enter_exception(target, ExceptionKind.SYNC, make_esr(ec, FSC_ALIGNMENT), cpu.fault_address())
    return True


def _wfi(cpu: Cpu) -> bool:
    """WFI at EL1 or EL0: Unicorn traps it always."""
    ctx = cpu.ctx
    if cpu.el() == 0 and not ctx.read("SCTLR_EL1") >> 16 & 1:
        cpu.enter_exception(cpu.exception_target(), ExceptionKind.SYNC, make_esr(Ec.WFX, 0x1E << 20))
        return True
    if ctx.read("HCR_EL2") & _HCR_TWI:
        return cpu.to_el2(make_esr(Ec.WFX, 0x1E << 20))
    ctx.pc = ctx.pc + 4 & MASK64
    return cpu.idle()


def _system(cpu: Cpu, word: int) -> bool:
    """MRS, MSR, SYS that Unicorn has trapped or does not know."""
    ctx = cpu.ctx
    place = encoding(word)
    read, rt = bool(word >> 21 & 1), word & 31
    op0, op1, crn, crm, op2 = place
    if op0 == 0:
        cpu.undefined()
        return True
    if op0 == 1 and crn == 8:
        cpu.flush_translations()
        ctx.pc = ctx.pc + 4 & MASK64
        return True
    if op0 == 1 and crn == 7 and crm in (1, 5):
        cpu.flush_code()
        ctx.pc = ctx.pc + 4 & MASK64
        return True
    name = NAMES.get(place, "")
    el = cpu.el()
    if el == 0 and op1 != 3:
        cpu.undefined()
        return True
    if name.startswith("ICC_"):
        return _gic_interface(cpu, word, name, read, rt)
    if name.startswith("ICH_") and el == 2:
        if read:
            _set(cpu, rt, _ich_read(cpu, name))
        else:
            _ich_write(cpu, name, _get(cpu, rt))
        ctx.pc = ctx.pc + 4 & MASK64
        return True
    if cpu.python_el2 and el < 2:
        return cpu.to_el2(_sysreg_syndrome(word))
    identification = op0 == 3 and op1 == 0 and crn == 0
    if identification and read:
        if el == 1 and ctx.read("HCR_EL2") & _HCR_TID3 and crm:
            return cpu.to_el2(_sysreg_syndrome(word))
        _set(cpu, rt, cpu.services.identification(ctx, name))
    elif name in ("OSLAR_EL1", "OSDLR_EL1"):
        pass
    else:
        cpu.undefined()
        return True
    ctx.pc = ctx.pc + 4 & MASK64
    return True


def _sysreg_syndrome(word: int) -> int:
    op0, op1, crn, crm, op2 = encoding(word)
    iss = ISS_SYSREG.make(READ=word >> 21 & 1, CRm=crm, Rt=word & 31, CRn=crn, Op1=op1, Op2=op2, Op0=op0)
    return make_esr(Ec.SYSREG, iss)


def _get(cpu: Cpu, rt: int) -> int:
    return 0 if rt == 31 else cpu.ctx.x[rt]


def _set(cpu: Cpu, rt: int, value: int) -> None:
    if rt != 31:
        cpu.ctx.x[rt] = value & MASK64


def _gic_interface(cpu: Cpu, word: int, name: str, read: bool, rt: int) -> bool:
    """ICC_*: the virtual interface where EL2 redirects it, else the physical one."""
    ctx = cpu.ctx
    hcr = ctx.read("HCR_EL2")
    guest = cpu.el() < 2 and (cpu.python_el2 or hcr & (_HCR_IMO | _HCR_FMO))
    if guest:
        ich = ctx.ich
        if (name in _SGI_REGISTERS or (name == "ICC_DIR_EL1" and ich.hcr >> 14 & 1)) and not read:
            return cpu.to_el2(_sysreg_syndrome(word))
        virtual = cpu.services.virtual(ctx)
        if read:
            _set(cpu, rt, virtual.read(name))
        else:
            virtual.write(name, _get(cpu, rt))
    else:
        physical = cpu.services.physical
        cpu.services.sync(cpu)
        if read:
            _set(cpu, rt, physical.read(name))
        else:
            physical.write(name, _get(cpu, rt))
    cpu.break_slice()
    ctx.pc = ctx.pc + 4 & MASK64
    return True


def _ich_read(cpu: Cpu, name: str) -> int:
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
    index = int("".join(c for c in name.split("_")[1][3:] if c.isdigit()) or 0)
    if name.startswith("ICH_LR"):
        return ich.lr[int(name[6:].split("_")[0])]
    return (ich.ap0r if name.startswith("ICH_AP0R") else ich.ap1r)[int(name[8])] if index >= 0 else 0


def _ich_write(cpu: Cpu, name: str, value: int) -> None:
    ich = cpu.ctx.ich
    if name == "ICH_HCR_EL2":
        ich.hcr = value
    elif name == "ICH_VMCR_EL2":
        ich.vmcr = value
    elif name.startswith("ICH_LR"):
        ich.lr[int(name[6:].split("_")[0])] = value
    elif name.startswith("ICH_AP0R"):
        ich.ap0r[int(name[8])] = value
    elif name.startswith("ICH_AP1R"):
        ich.ap1r[int(name[8])] = value
    cpu.break_slice()


def hooked(cpu: Cpu, word: int) -> bool:
    """An MRS or MSR of a counter, timer or identification register, or WFI, at a hooked place: True when done here."""
    if word == _WFI:
        return cpu.wfi_at_el2()
    place = encoding(word)
    name = NAMES.get(place)
    read, rt = bool(word >> 21 & 1), word & 31
    if place[0] == 3 and place[1] == 0 and place[2] == 0:
        if cpu.running_el() != 2:
            return False
        cpu.write_x(rt, cpu.services.identification(cpu.ctx, name or ""))
        return True
    if name is None:
        return False
    if read:
        cpu.write_x(rt, _read_counter(cpu, name) & MASK64)
    else:
        _write_counter(cpu, name, cpu.read_x(rt))
        cpu.break_slice()
    return True


def _read_counter(cpu: Cpu, name: str) -> int:
    regs = cpu.ctx.regs
    if name == "CNTFRQ_EL0":
        return TICKS_PER_SECOND
    cpu.time += CHARGE_COUNTER_READ
    now = cpu.time
    if name == "CNTPCT_EL0":
        return now
    if name == "CNTVCT_EL0":
        return now - regs.get("CNTVOFF_EL2", 0)
    timer, kind, suffix = name.split("_")
    if kind == "CTL":
        return control(cpu.ctx, timer, suffix, now)
    cval = regs.get(f"{timer}_CVAL_{suffix}", 0)
    if kind == "TVAL":
        return cval - now & 0xFFFF_FFFF
    return regs.get(name, 0)


def _write_counter(cpu: Cpu, name: str, value: int) -> None:
    regs = cpu.ctx.regs
    parts = name.split("_")
    if len(parts) == 3 and parts[1] == "TVAL":
        offset = value & 0xFFFF_FFFF
        offset -= (offset >> 31) << 32
        regs[f"{parts[0]}_CVAL_{parts[2]}"] = cpu.time + offset & MASK64
    elif len(parts) == 3 and parts[1] == "CTL":
        regs[name] = value & (ENABLE | IMASK)
    elif name not in ("CNTPCT_EL0", "CNTVCT_EL0", "CNTFRQ_EL0"):
        regs[name] = value
