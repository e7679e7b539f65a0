"""What a person needs to see when an image ends badly: registers, and the code around PC."""

from dataclasses import dataclass
from typing import Any, Final

from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

from realmkit.arch import psci
from realmkit.arch.pas import SecurityState
from realmkit.arch.rmi import Rmi
from realmkit.machine.context import CpuContext
from realmkit.machine.core.exceptions import describe
from realmkit.machine.core.services import Taken
from realmkit.machine.machine import Machine
from realmkit.machine.port import ExceptionKind, ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Controls, Fault, Kind

AROUND: Final = 6
"""Instructions shown on either side of PC."""
_EL2: Final = (
    "ELR_EL2",
    "SPSR_EL2",
    "ESR_EL2",
    "FAR_EL2",
    "HPFAR_EL2",
    "VBAR_EL2",
    "SCTLR_EL2",
    "HCR_EL2",
    "TTBR0_EL2",
)
_STATES: Final = {
    SecurityState.NS: "Non-secure",
    SecurityState.SECURE: "Secure",
    SecurityState.REALM: "Realm",
    SecurityState.ROOT: "Root",
}
_EL1: Final = ("ELR_EL1", "SPSR_EL1", "ESR_EL1", "FAR_EL1", "VBAR_EL1", "SCTLR_EL1", "TTBR0_EL1", "TTBR1_EL1")


@dataclass(frozen=True, slots=True)
class PeState:
    """A PE at the end of a run."""

    index: int
    powered: bool
    state: str
    """Security state, and whether the PE waits for an interrupt."""
    registers: dict[str, int]
    code: tuple[str, ...]
    """Disassembly around PC; the line of PC starts with ``=>``."""

    def lines(self) -> list[str]:
        """The state in words."""
        if not self.powered:
            return [f"PE {self.index}: off"]
        if not self.registers:
            return [f"PE {self.index}: {self.state}"]
        regs = self.registers
        pc, pstate = regs["PC"], regs["PSTATE"]
        out = [f"PE {self.index}: {self.state}, PC {pc:#x}, PSTATE {pstate:#x} ({_mode(pstate)})"]
        names = [f"X{n}" for n in range(31)]
        out.extend(
            "  " + "  ".join(f"{name:>3} {regs[name]:016x}" for name in names[row : row + 4]) for row in range(0, 31, 4)
        )
        rest = [name for name in regs if name not in names and name not in ("PC", "PSTATE")]
        out.extend(
            "  " + "  ".join(f"{name:>9} {regs[name]:016x}" for name in rest[row : row + 3])
            for row in range(0, len(rest), 3)
        )
        suffix = "_EL2" if "ESR_EL2" in regs else "_EL1"
        if regs.get("ESR" + suffix):
            out.append(f"  last synchronous exception: {_exception(regs, suffix)}")
        out.extend("  " + line for line in self.code)
        return out


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All PEs."""

    pes: tuple[PeState, ...]
    history: tuple[str, ...]
    """The last exceptions, oldest first."""

    def as_dict(self) -> list[dict[str, Any]]:
        """For the report; register values as hexadecimal text."""
        return [
            {
                "pe": pe.index,
                "powered": pe.powered,
                "state": pe.state,
                "registers": {name: f"{value:#x}" for name, value in pe.registers.items()},
                "code": list(pe.code),
            }
            for pe in self.pes
        ]


def diagnose(machine: Machine) -> Diagnosis:
    """The state of all PEs of a machine whose Host is an image."""
    found = []
    for pe in machine.pes:
        ctx = pe.current
        state = _STATES[pe.world]
        if pe.idle:
            state += ", waiting for an interrupt"
        if not pe.powered or ctx is None or not pe.has_own_el2(ctx):
            found.append(PeState(pe.index, pe.powered, state, {}, ()))
        else:
            found.append(PeState(pe.index, True, state, _registers(ctx), _code(machine, pe.world, ctx)))
    return Diagnosis(tuple(found), tuple(_event(taken) for taken in machine.history))


def _event(taken: Taken) -> str:
    tick, pe, state, source, target, kind, esr, far, pc, x = taken
    text = f"tick {tick}, PE {pe}, {_STATES[state]} EL{source} to EL{target} at PC {pc:#x}: "
    if kind is not ExceptionKind.SYNC:
        return text + kind.name
    if target == 3:
        return text + f"SMC {call_name(x[0])} " + ", ".join(f"X{n}={value:#x}" for n, value in enumerate(x[1:], 1))
    return text + f"{describe(esr)}" + (f", address {far:#x}" if far else "")


def call_name(fid: int) -> str:
    """A function identifier with its name, if it has one."""
    fid &= 0xFFFF_FFFF
    try:
        name = f"RMI_{Rmi(fid).name}"
    except ValueError:
        name = psci.NAMES.get(fid, "")
    return f"{fid:#010x}" + (f" ({name})" if name else "")


def _registers(ctx: CpuContext) -> dict[str, int]:
    el = ctx.pstate >> 2 & 3
    values = {f"X{n}": value for n, value in enumerate(ctx.x)}
    values["PC"], values["PSTATE"] = ctx.pc, ctx.pstate
    stack = f"SP_EL{el}" if ctx.pstate & 1 else "SP_EL0"
    values[stack] = ctx.read(stack)
    for name in _EL2 if el == 2 else _EL1:
        values[name] = ctx.read(name)
    return values


def _code(machine: Machine, world: SecurityState, ctx: CpuContext) -> tuple[str, ...]:
    decoder = Cs(CS_ARCH_ARM64, CS_MODE_ARM)
    lines = []
    for address in range(ctx.pc - 4 * AROUND, ctx.pc + 4 * AROUND + 4, 4):
        mark = "=>" if address == ctx.pc else "  "
        word = _fetch(machine, world, ctx, address)
        if word is None:
            if address == ctx.pc:
                lines.append(f"{mark} {address:#x}: not executable memory of this world")
            continue
        text = next((f"{i.mnemonic} {i.op_str}".rstrip() for i in decoder.disasm(word, address)), ".word")
        lines.append(f"{mark} {address:#x}: {int.from_bytes(word, 'little'):08x}  {text}")
    return tuple(lines)


def _fetch(machine: Machine, world: SecurityState, ctx: CpuContext, address: int) -> bytes | None:
    """The instruction at a virtual address, as the context would fetch it."""
    if address < 0 or address & 3:
        return None
    el = ctx.pstate >> 2 & 3
    read = ctx.read
    if el == 2:
        controls = Controls(world, True, read("SCTLR_EL2"), read("TCR_EL2"), read("TTBR0_EL2"), 0, read("MAIR_EL2"))
    else:
        controls = Controls(
            world,
            False,
            read("SCTLR_EL1"),
            read("TCR_EL1"),
            read("TTBR0_EL1"),
            read("TTBR1_EL1"),
            read("MAIR_EL1"),
            read("HCR_EL2"),
            read("VTCR_EL2"),
            read("VTTBR_EL2"),
        )
    found = machine.mmus[world].translate(controls, address, Access(Kind.EXECUTE, bool(el)))
    if isinstance(found, Fault):
        return None
    try:
        return machine.buses[world].read(found.pas, found.pa | address & 0xFFF, 4)
    except (ExternalAbort, GranuleProtectionFault):
        return None


def _mode(pstate: int) -> str:
    masked = "".join(name for name, bit in (("D", 9), ("A", 8), ("I", 7), ("F", 6)) if pstate >> bit & 1)
    return f"EL{pstate >> 2 & 3}{'h' if pstate & 1 else 't'}, {masked or 'nothing'} masked"


def _exception(regs: dict[str, int], suffix: str) -> str:
    esr = regs["ESR" + suffix]
    return (
        f"{describe(esr)}, ISS {esr & 0x1FF_FFFF:#x}, at {regs['ELR' + suffix]:#x}, address {regs['FAR' + suffix]:#x}"
    )
