"""The generic timers of EL1 as EL2 and their software see them (Arm ARM D12)."""

from collections.abc import Callable
from typing import Final

ENABLE, IMASK, ISTATUS = 1, 2, 4
ASSERTED: Final = ENABLE | ISTATUS
"""CTL as it reads while the output of a timer is asserted."""
CNTVMASK: Final = 1 << 18
CNTPMASK: Final = 1 << 19
"""CNTHCTL_EL2: the output of the timer is masked."""

Timers = tuple[int, int, int, int]
"""CNTP_CTL, CNTP_CVAL, CNTV_CTL, CNTV_CVAL, in the order of RmiRecExit."""


def control(ctl: int, cval: int, now: int) -> int:
    """CTL as software reads it, with ISTATUS computed."""
    ctl &= ENABLE | IMASK
    return ctl | ISTATUS if ctl & ENABLE and now >= cval else ctl


def timers(read: Callable[[str], int], now: int) -> Timers:
    """The timers of EL1 as software reads them, by their registers; offsets are zero."""
    cntp_cval, cntv_cval = read("CNTP_CVAL_EL0"), read("CNTV_CVAL_EL0")
    cntp_ctl = control(read("CNTP_CTL_EL0"), cntp_cval, now)
    return cntp_ctl, cntp_cval, control(read("CNTV_CTL_EL0"), cntv_cval, now), cntv_cval


def masks(state: Timers) -> int:
    """CNTHCTL_EL2 bits that mask the timers whose output is asserted."""
    return (CNTPMASK if state[0] == ASSERTED else 0) | (CNTVMASK if state[2] == ASSERTED else 0)
