"""Counter and timer registers of running code, on virtual time (Arm ARM D12.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from realmkit.arch.smccc import MASK64
from realmkit.arch.time import CHARGE_COUNTER_POLL, CHARGE_COUNTER_READ, COUNTER_POLL, TICKS_PER_SECOND
from realmkit.arch.timer import ENABLE, IMASK
from realmkit.machine.core.timers import control

if TYPE_CHECKING:
    from realmkit.machine.core.cpu import Cpu

EL0_ENABLES: Final = {
    "CNTFRQ_EL0": 0b11,
    "CNTPCT_EL0": 1 << 0,
    "CNTVCT_EL0": 1 << 1,
    **{f"CNTV_{kind}_EL0": 1 << 8 for kind in ("TVAL", "CTL", "CVAL")},
    **{f"CNTP_{kind}_EL0": 1 << 9 for kind in ("TVAL", "CTL", "CVAL")},
}
"""CNTKCTL_EL1 bits, any of which lets EL0 use a register."""
_KINDS: Final = ("TVAL", "CTL", "CVAL")
HOOKED_AT_EL2: Final = frozenset(
    {"CNTVOFF_EL2", "CNTHCTL_EL2"} | {f"{timer}_{kind}_EL2" for timer in ("CNTHP", "CNTHV") for kind in _KINDS}
)
WRITABLE: Final = HOOKED_AT_EL2 | {f"{timer}_{kind}_EL0" for timer in ("CNTP", "CNTV") for kind in _KINDS}
HOOKED: Final = WRITABLE | {"CNTFRQ_EL0", "CNTPCT_EL0", "CNTVCT_EL0"}
"""Registers that both we and Unicorn have. The rest of the space is UNDEFINED."""


def read(cpu: Cpu, name: str) -> int:
    """Value of a CNT* register; reading a counter takes its fixed charge."""
    regs = cpu.ctx.regs
    if name == "CNTFRQ_EL0":
        return TICKS_PER_SECOND
    cpu.catch_up()
    cpu.counter_reads += 1
    charge = CHARGE_COUNTER_READ
    if cpu.counter_reads > COUNTER_POLL:
        charge = max(charge, min(CHARGE_COUNTER_POLL, cpu.end - cpu.time))
    cpu.time += charge
    now = cpu.time
    cpu.engine.blocks.limit(cpu.end - now)
    if name == "CNTPCT_EL0":
        return now
    if name == "CNTVCT_EL0":
        return now - regs.get("CNTVOFF_EL2", 0) & MASK64
    parts = name.split("_")
    if len(parts) == 3:
        timer, kind, suffix = parts
        if kind == "CTL":
            return control(cpu.ctx, timer, suffix, now)
        if kind == "TVAL":
            return regs.get(f"{timer}_CVAL_{suffix}", 0) - now & 0xFFFF_FFFF
    return regs.get(name, 0)


def write(cpu: Cpu, name: str, value: int) -> None:
    """Write a CNT* register."""
    cpu.catch_up()
    regs = cpu.ctx.regs
    parts = name.split("_")
    if len(parts) == 3 and parts[1] == "TVAL":
        offset = value & 0xFFFF_FFFF
        offset -= (offset >> 31) << 32
        regs[f"{parts[0]}_CVAL_{parts[2]}"] = cpu.time + offset & MASK64
    elif len(parts) == 3 and parts[1] == "CTL":
        regs[name] = value & (ENABLE | IMASK)
    else:
        regs[name] = value
