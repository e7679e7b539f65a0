"""The generic timers of a context, on virtual time (Arm ARM D12): levels and deadlines from CTL and CVAL."""

from typing import Final, NamedTuple

from realmkit.arch import timer as arch_timer
from realmkit.arch.gic import PPI_CNTHP, PPI_CNTHV, PPI_CNTP, PPI_CNTV
from realmkit.arch.timer import CNTPMASK, CNTVMASK, ENABLE, IMASK
from realmkit.machine.context import CpuContext


class Timer(NamedTuple):
    """Its registers, its line among the private interrupts of a PE, and the bit of CNTHCTL_EL2 that holds it low."""

    ctl: str
    cval: str
    line: int
    mask: int


EL1_TIMERS: Final = (
    Timer("CNTV_CTL_EL0", "CNTV_CVAL_EL0", 1 << PPI_CNTV, CNTVMASK),
    Timer("CNTP_CTL_EL0", "CNTP_CVAL_EL0", 1 << PPI_CNTP, CNTPMASK),
)
EL2_TIMERS: Final = (
    Timer("CNTHP_CTL_EL2", "CNTHP_CVAL_EL2", 1 << PPI_CNTHP, 0),
    Timer("CNTHV_CTL_EL2", "CNTHV_CVAL_EL2", 1 << PPI_CNTHV, 0),
)
_ICH_MAINTENANCE: Final = 0xFE
"""ICH_HCR_EL2: the conditions that raise the maintenance interrupt."""
LINES: Final = 1 << PPI_CNTV | 1 << PPI_CNTP | 1 << PPI_CNTHP | 1 << PPI_CNTHV


def control(ctx: CpuContext, timer: str, suffix: str, now: int) -> int:
    """CTL as software reads it, with ISTATUS computed."""
    return arch_timer.control(ctx.regs.get(f"{timer}_CTL_{suffix}", 0), ctx.regs.get(f"{timer}_CVAL_{suffix}", 0), now)


def lines(ctx: CpuContext, timers: tuple[Timer, ...], now: int) -> int:
    """Lines that are asserted, one bit for each INTID; CNTHCTL_EL2.CNTVMASK and CNTPMASK hold a line low."""
    regs = ctx.regs
    asserted = 0
    for ctl, cval, line, mask in timers:
        if (
            regs.get(ctl, 0) & (ENABLE | IMASK) == ENABLE
            and now >= regs.get(cval, 0)
            and not regs.get("CNTHCTL_EL2", 0) & mask
        ):
            asserted |= line
    return asserted


def are_silent(ctx: CpuContext) -> bool:
    """Whether no timer of EL1, and nothing of its virtual interrupts, can raise a line while a context runs."""
    regs, ich = ctx.regs, ctx.ich
    if (regs.get("CNTV_CTL_EL0", 0) | regs.get("CNTP_CTL_EL0", 0)) & ENABLE:
        return False
    return not ich.hcr & _ICH_MAINTENANCE and not any(ich.lr)


def deadline(ctx: CpuContext, timers: tuple[Timer, ...], now: int) -> int | None:
    """Earliest future tick at which a line rises."""
    regs = ctx.regs
    best: int | None = None
    for ctl, cval, _, _ in timers:
        if regs.get(ctl, 0) & (ENABLE | IMASK) == ENABLE:
            at = regs.get(cval, 0)
            if at > now and (best is None or at < best):
                best = at
    return best
