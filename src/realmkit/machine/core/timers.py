"""The generic timers of a context, on virtual time (Arm ARM D12): levels and deadlines from CTL and CVAL."""

from realmkit.arch.gic import PPI_CNTHP, PPI_CNTHV, PPI_CNTP, PPI_CNTV
from realmkit.machine.context import CpuContext

ENABLE, IMASK, ISTATUS = 1, 2, 4
EL1_TIMERS = (("CNTV", "EL0", PPI_CNTV, 1 << 18), ("CNTP", "EL0", PPI_CNTP, 1 << 19))
EL2_TIMERS = (("CNTHP", "EL2", PPI_CNTHP, 0), ("CNTHV", "EL2", PPI_CNTHV, 0))
_Timers = tuple[tuple[str, str, int, int], ...]


def control(ctx: CpuContext, timer: str, suffix: str, now: int) -> int:
    """CTL as software reads it, with ISTATUS computed."""
    value = ctx.regs.get(f"{timer}_CTL_{suffix}", 0) & (ENABLE | IMASK)
    if value & ENABLE and now >= ctx.regs.get(f"{timer}_CVAL_{suffix}", 0):
        value |= ISTATUS
    return value


def lines(ctx: CpuContext, timers: _Timers, now: int) -> list[tuple[int, bool]]:
    """(INTID, level) of each timer; CNTHCTL_EL2.CNTVMASK and CNTPMASK hold a line low."""
    masks = ctx.regs.get("CNTHCTL_EL2", 0)
    return [
        (intid, control(ctx, timer, suffix, now) & 7 == ENABLE | ISTATUS and not masks & mask)
        for timer, suffix, intid, mask in timers
    ]


def deadline(ctx: CpuContext, timers: _Timers, now: int) -> int | None:
    """Earliest future tick at which a line rises."""
    regs = ctx.regs
    best: int | None = None
    for timer, suffix, _, _ in timers:
        if regs.get(f"{timer}_CTL_{suffix}", 0) & 3 == ENABLE:
            cval = regs.get(f"{timer}_CVAL_{suffix}", 0)
            if cval > now and (best is None or cval < best):
                best = cval
    return best
