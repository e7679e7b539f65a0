"""What to do with each exception that Unicorn reports, and with hooked register accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import FSC_ALIGNMENT, FSC_DEBUG, Ec, make_esr
from realmkit.arch.smccc import MASK64
from realmkit.arch.sysregs import ENCODINGS
from realmkit.machine.core import counters, exceptions, gic, translation
from realmkit.machine.core.registers import HCR_E2H, HCR_RW, HCR_TID3, HCR_TRANSLATION, HCR_TSC, HCR_TWE, HCR_TWI
from realmkit.machine.core.tlb import PAGE_MASK
from realmkit.machine.insn import Hint, HintKind, SystemAccess, decode, decode_access
from realmkit.machine.port import ExceptionInfo, ExceptionKind

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

UNDEFINED, SVC, PREFETCH_ABORT, DATA_ABORT, BREAKPOINT, HVC, SMC_TRAPPED, SMC = 1, 2, 3, 4, 7, 11, 12, 13
_WFI_ISS: Final = 0x1E << 20  # COND = 14
_WFE_ISS: Final = _WFI_ISS | 1
_COUNTERS: Final = 14
"""CRn of counters and timers: what there is of them does not come here."""
_SS: Final = 1 << 21
"""PSTATE.SS: an instruction is to be stepped."""
_PSTATE_D: Final = 1 << 9
_MDSCR_SS: Final = 1 << 0
_MDSCR_KDE: Final = 1 << 13
_STEP_VALID: Final = 1 << 24
"""ISV of a software step exception: EX is valid."""
_NTWI: Final = 1 << 16
_NTWE: Final = 1 << 18
_UCT, _UCI = 1 << 15, 1 << 26
_TRANSLATE: Final = 8
"""CRm of AT."""
_BY_ADDRESS: Final = frozenset({1, 3, 5, 7})
_BY_ASID: Final = frozenset({1, 2, 5})
_LAST_LEVEL: Final = frozenset({5, 7})
"""op2 of TLBI: VAE1, VAAE1, VALE1, VAALE1; VAE1, ASIDE1, VALE1; VALE1, VAALE1."""
_PERFORMANCE_MONITORS: Final = "PM"
"""There are none; they read as zero, since code that prepares a PE often does not ask first."""
_TRANSLATIONS: Final[tuple[dict[int, tuple[int, ...]], ...]] = (
    {},
    {0: (0, 1, 2, 3)},
    {0: (0, 1, 2, 3), 4: (0, 1, 4, 5, 6, 7)},
)
"""AT instructions of EL1 and EL2: op2 by op1."""
_CTR_EL0: Final = ENCODINGS["CTR_EL0"]
_EL: Final = 0xC
_RANDOM: Final = frozenset({"RNDR", "RNDRRS"})
_IGNORED: Final = frozenset({"OSLAR_EL1", "OSDLR_EL1"})


def serve(cpu: Cpu, number: int) -> bool:
    """Serve an exception; the context is current. True when the code goes on (the context says where)."""
    ctx = cpu.ctx
    if number == SVC:
        exceptions.enter(
            cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.SVC64, _previous_immediate(cpu))
        )
        return True
    if number == SMC:
        return _smc(cpu)
    if number == SMC_TRAPPED:
        return _smc_trap(cpu)
    if number == HVC:
        syndrome = make_esr(Ec.HVC64, _previous_immediate(cpu))
        if cpu.el() == 2:
            exceptions.enter(cpu, 2, ExceptionKind.SYNC, syndrome)
            return True
        return exceptions.to_el2(cpu, syndrome)
    if number == BREAKPOINT:
        immediate = (cpu.word() or 0) >> 5 & 0xFFFF
        exceptions.enter(cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.BRK, immediate))
        return True
    if number in (DATA_ABORT, PREFETCH_ABORT):
        _alignment(cpu, number)
        return True
    if not ctx.pstate & _SS and _is_stepping(cpu):
        target = exceptions.target_of(cpu)
        ec = Ec.STEP_SAME if cpu.el() == target else Ec.STEP_LOWER
        exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(ec, _STEP_VALID | FSC_DEBUG))
        return True
    word = cpu.word()
    instruction = None if word is None else decode(word)
    if isinstance(instruction, Hint) and instruction.kind is HintKind.WFI:
        return _wfi(cpu)
    if isinstance(instruction, SystemAccess):
        return _system(cpu, instruction)
    if ctx.pc & 3:
        exceptions.enter(cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.PC_ALIGN), ctx.pc)
    else:
        exceptions.undefined(cpu)
    return True


def _is_stepping(cpu: Cpu) -> bool:
    """Whether software step is active, as EL1 has asked for: then an instruction has just been stepped (D2.12)."""
    if cpu.el() > 1 or not (control := cpu.ctx.read("MDSCR_EL1")) & _MDSCR_SS:
        return False
    return cpu.el() == 0 or bool(control & _MDSCR_KDE and not cpu.ctx.pstate & _PSTATE_D)


def _previous_immediate(cpu: Cpu) -> int:
    """Immediate of the SVC or HVC that PC is past."""
    word = cpu.word(cpu.ctx.pc - 4 & MASK64)
    return 0 if word is None else word >> 5 & 0xFFFF


def _smc(cpu: Cpu) -> bool:
    """SMC; PC is past it. EL2 may have trapped it, otherwise it goes to EL3."""
    ctx = cpu.ctx
    if cpu.el() < 2 and ctx.read("HCR_EL2") & HCR_TSC:
        ctx.pc = ctx.pc - 4 & MASK64
        return _smc_trap(cpu)
    return exceptions.to_software(cpu, ExceptionInfo(ExceptionKind.SYNC, make_esr(Ec.SMC64)), 3)


def _smc_trap(cpu: Cpu) -> bool:
    word = cpu.word() or 0
    return exceptions.to_el2(cpu, make_esr(Ec.SMC64, word >> 5 & 0xFFFF))


def _alignment(cpu: Cpu, number: int) -> None:
    """Unicorn checks alignment itself, and breakpoints; what else reaches us here is reported as alignment."""
    ctx = cpu.ctx
    target = exceptions.target_of(cpu)
    if ctx.pc & 3:
        exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(Ec.PC_ALIGN), ctx.pc)
        return
    if number == PREFETCH_ABORT:
        ec = Ec.BREAKPOINT_SAME if cpu.el() == target else Ec.BREAKPOINT_LOWER
        exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(ec, FSC_DEBUG))
        return
    word = cpu.word()
    access = None if word is None else decode_access(word)
    va = ctx.pc if access is None else access.address(ctx.x, cpu.engine.sp(), ctx.pc)
    write = access is not None and access.write
    ec = Ec.DABT_SAME if cpu.el() == target else Ec.DABT_LOWER
    exceptions.enter(cpu, target, ExceptionKind.SYNC, make_esr(ec, FSC_ALIGNMENT | int(write) << 6), va)


def _wfi(cpu: Cpu) -> bool:
    """WFI, which Unicorn is told to trap always."""
    ctx = cpu.ctx
    if cpu.el() == 0 and not ctx.read("SCTLR_EL1") & _NTWI:
        exceptions.enter(cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.WFX, _WFI_ISS))
        return True
    if cpu.el() < 2 and ctx.read("HCR_EL2") & HCR_TWI:
        return exceptions.to_el2(cpu, make_esr(Ec.WFX, _WFI_ISS))
    cpu.skip()
    return cpu.idle()


def is_wfe_trapped(cpu: Cpu, el: int) -> bool:
    """Whether EL1 traps WFE of EL0, or EL2 traps WFE of both."""
    if cpu.ctx.read("HCR_EL2") & HCR_TWE:
        return True
    return el == 0 and not cpu.ctx.read("SCTLR_EL1") & _NTWE


def wait_for_event(cpu: Cpu) -> bool:
    """A trapped WFE at EL1 or EL0. Whether the context goes on at once."""
    if cpu.el() == 0 and not cpu.ctx.read("SCTLR_EL1") & _NTWE:
        exceptions.enter(cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, make_esr(Ec.WFX, _WFE_ISS))
        return True
    return exceptions.to_el2(cpu, make_esr(Ec.WFX, _WFE_ISS))


def _system(cpu: Cpu, access: SystemAccess) -> bool:
    """MRS, MSR, SYS that Unicorn has trapped or does not know."""
    ctx = cpu.ctx
    op0, op1, crn, crm, _ = access.encoding
    el = cpu.el()
    if op0 == 0 or (el == 0 and op1 != 3):
        exceptions.undefined(cpu)
        return True
    name = access.name
    syndrome = make_esr(Ec.SYSREG, access.iss())
    if el == 0 and _is_denied_to_el0(cpu, access, name):
        exceptions.enter(cpu, exceptions.target_of(cpu), ExceptionKind.SYNC, syndrome)
        return True
    if name.startswith("ICC_"):
        return gic.access_interface(cpu, access, name, syndrome)
    if name.startswith("ICH_") and el == 2:
        return gic.access_hypervisor(cpu, access, name)
    if name.startswith(_PERFORMANCE_MONITORS):
        if access.read:
            cpu.set_x(access.rt, 0)
        cpu.skip()
        return True
    if op0 == 3 and crn == _COUNTERS and op1 == 3:
        exceptions.undefined(cpu)
        return True
    if cpu.python_el2 and el < 2:
        return exceptions.to_el2(cpu, syndrome)
    if access.read and op0 == 3 and op1 == 0 and crn == 0:
        if el == 1 and ctx.read("HCR_EL2") & HCR_TID3 and crm:
            return exceptions.to_el2(cpu, syndrome)
        cpu.set_x(access.rt, cpu.services.identification(ctx, name))
    elif name not in _IGNORED:
        exceptions.undefined(cpu)
        return True
    cpu.skip()
    return True


def _is_denied_to_el0(cpu: Cpu, access: SystemAccess, name: str) -> bool:
    """Whether EL1 keeps an access with op1 3 to itself: SCTLR_EL1.UCI and UCT, CNTKCTL_EL1."""
    if access.encoding[0] == 1:
        return not cpu.ctx.read("SCTLR_EL1") & _UCI
    if name == "CTR_EL0":
        return not cpu.ctx.read("SCTLR_EL1") & _UCT
    enable = counters.EL0_ENABLES.get(name)
    return enable is not None and not cpu.ctx.read("CNTKCTL_EL1") & enable


def hooked(cpu: Cpu, access: SystemAccess, value: int) -> bool:
    """An MRS, MSR or SYS at a hooked place, with the value of Xt: True when it has been done here.

    Never for what Unicorn does not allow: it would not go on to the next instruction. It reports those as UNDEFINED.
    """
    op0, _, crn, _, _ = access.encoding
    if op0 == 1:
        return _maintenance(cpu, access, value)
    if op0 != 3:
        return False
    if access.encoding == _CTR_EL0:
        if not access.read or (cpu.running_pstate() & _EL == 0 and _is_denied_to_el0(cpu, access, "CTR_EL0")):
            return False
        cpu.write_x(access.rt, cpu.services.identification(cpu.ctx, "CTR_EL0"))
        return True
    name = access.name
    el = cpu.running_pstate() >> 2 & 3
    if crn == 0:
        if not access.read or el < 2 or not _is_identification(access):
            return False
        cpu.write_x(access.rt, cpu.services.identification(cpu.ctx, name))
        return True
    if name == "HCR_EL2":
        return el == 2 and _hypervisor_control(cpu, access, value)
    if name in _RANDOM:
        # No PE has them, but Unicorn does: at least nothing of the outside comes in.
        cpu.write_x(access.rt, 0)
        return True
    if name not in counters.HOOKED or (el < 2 and name in counters.HOOKED_AT_EL2):
        return False
    if (el == 0 and _is_denied_to_el0(cpu, access, name)) or not (access.read or name in counters.WRITABLE):
        return False
    if access.read:
        cpu.write_x(access.rt, counters.read(cpu, name))
    else:
        counters.write(cpu, name, value)
        cpu.break_slice()
    return True


def _is_identification(access: SystemAccess) -> bool:
    """Whether a read with CRn 0 is of the identification space that Unicorn knows, which is all that is allocated."""
    _, op1, _, crm, op2 = access.encoding
    return op1 == 0 and (0 < crm < 8 or (crm == 0 and op2 in (0, 5, 6)))


def _hypervisor_control(cpu: Cpu, access: SystemAccess, value: int) -> bool:
    """HCR_EL2 of an image: the context has it, the engine's own has the traps that we need."""
    regs = cpu.ctx.regs
    if access.read:
        cpu.write_x(access.rt, regs.get("HCR_EL2", 0))
        return True
    value = value & ~HCR_E2H | HCR_RW
    if (value ^ regs.get("HCR_EL2", 0)) & HCR_TRANSLATION:
        cpu.services.broadcast_tlbi(cpu.ctx)
        cpu.engine.flush()
    regs["HCR_EL2"] = value
    cpu.break_slice()
    return True


def _maintenance(cpu: Cpu, access: SystemAccess, value: int) -> bool:
    """AT; IC and TLBI, which reach all PEs: the engine does its own part of them.

    Where IC and TLBI by EL1 are UNDEFINED or trapped, they make nobody forget what must be kept: it does no harm.
    """
    _, op1, crn, crm, op2 = access.encoding
    if crn == 8 and op1 == 0:
        page = value & PAGE_MASK if op2 in _BY_ADDRESS else None
        asid = value >> 48 if op2 in _BY_ASID else None
        cpu.services.broadcast_tlbi(cpu.ctx, page, asid, op2 in _LAST_LEVEL)
        return False
    if crn == 7 and crm != _TRANSLATE:
        _instruction_cache(cpu, op1 == 3, value)
        return False
    el = cpu.running_pstate() >> 2 & 3
    if el == 0:
        return False
    if crn == 7:
        if op2 not in _TRANSLATIONS[el].get(op1, ()):
            return False
        translation.address_translate(cpu, access, value)
        return True
    if el == 2:
        cpu.services.broadcast_tlbi_el2()
    return False


def _instruction_cache(cpu: Cpu, by_address: bool, value: int) -> None:
    """IC IALLU, IALLUIS, and IVAU by the address in ``value``."""
    pa = None
    if by_address:
        pa = cpu.physical(value)
        if pa is None:
            return
    cpu.services.broadcast_ic(pa, cpu.ctx)
    if cpu.engine.changed:
        cpu.renew_code()
