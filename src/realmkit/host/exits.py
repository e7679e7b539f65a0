"""The RecRun page as a Host uses it: what it writes before an entry and reads after an exit (spec: rmi section 4.3)."""

import struct
from typing import NamedTuple

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason
from realmkit.machine.port import Bus

_ENTER = struct.Struct("<31Q8xQ16Q")
_EXIT = 0x800
_SYNDROME = struct.Struct("<3Q")
_GPRS = struct.Struct("<31Q")
_GIC = struct.Struct("<Q16QQQ")
_TIMERS = struct.Struct("<4Q")
_RIPAS = struct.Struct("<QQB")
_CTL, _CTL_ENABLE = 0b111, 0b001
"""ENABLE without IMASK and ISTATUS."""


class Exit(NamedTuple):
    """Fields of RmiRecExit."""

    reason: int
    esr: int
    far: int
    hpfar: int
    gprs: tuple[int, ...]
    gicv3_hcr: int
    lrs: tuple[int, ...]
    misr: int
    vmcr: int
    cntp_ctl: int
    cntp_cval: int
    cntv_ctl: int
    cntv_cval: int
    ripas_base: int
    ripas_top: int
    ripas_value: int
    imm: int

    @property
    def reason_name(self) -> str:
        """Name of the exit reason."""
        try:
            return ExitReason(self.reason).name
        except ValueError:
            return f"reason {self.reason}"

    @property
    def fault_ipa(self) -> int:
        """IPA of an abort: page from HPFAR, offset from FAR where it was reported."""
        return (self.hpfar & 0xFF_FFFF_FFF0) << 8 | self.far & 0xFFF

    def next_timer(self) -> int | None:
        """Tick at which a timer of the VCPU will assert its interrupt; None if none will."""
        deadlines = [
            cval
            for ctl, cval in ((self.cntv_ctl, self.cntv_cval), (self.cntp_ctl, self.cntp_cval))
            if ctl & _CTL == _CTL_ENABLE
        ]
        return min(deadlines) if deadlines else None


def write_enter(bus: Bus, run: int, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> None:
    """Fill RmiRecEnter: 31 registers, ICH_HCR bits, 16 list registers."""
    bus.write64(Pas.NS, run, flags)
    bus.write(Pas.NS, run + 0x200, _ENTER.pack(*gprs, hcr, *lrs))


def read_exit(bus: Bus, run: int) -> Exit:
    """Read RmiRecExit."""
    page = bus.read(Pas.NS, run + _EXIT, 0x800)
    gic = _GIC.unpack_from(page, 0x300)
    imm = page[0x600] | page[0x601] << 8
    return Exit._make(
        (
            page[0],
            *_SYNDROME.unpack_from(page, 0x100),
            _GPRS.unpack_from(page, 0x200),
            gic[0],
            gic[1:17],
            *gic[17:],
            *_TIMERS.unpack_from(page, 0x400),
            *_RIPAS.unpack_from(page, 0x500),
            imm,
        )
    )
