"""The RecRun page as a Host uses it: what it writes before an entry and reads after an exit (spec: rmi section 4.3)."""

import struct
from typing import NamedTuple

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason
from realmkit.machine.port import Bus

_ENTER = struct.Struct("<31Q8xQ16Q")
_EXIT = 0x800
_EXIT_END = 0x602
_NS = Pas.NS
_NO_GPRS = (0,) * 31
_NO_LISTS = (0,) * 16
_GPRS_PLACE = slice(0x200, 0x2F8)
_LISTS_PLACE = slice(0x308, 0x388)
_ZERO_GPRS = bytes(248)
_ZERO_LISTS = bytes(128)
_SYNDROME = struct.Struct("<3Q")
_GPRS = struct.Struct("<31Q")
_LISTS = struct.Struct("<16Q")
_WORD = struct.Struct("<Q")
_PAIR = struct.Struct("<2Q")
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
        virtual = self.cntv_cval if self.cntv_ctl & _CTL == _CTL_ENABLE else None
        physical = self.cntp_cval if self.cntp_ctl & _CTL == _CTL_ENABLE else None
        if virtual is None or physical is None:
            return physical if virtual is None else virtual
        return min(virtual, physical)


def write_enter(bus: Bus, run: int, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> None:
    """Fill RmiRecEnter: 31 registers, ICH_HCR bits, 16 list registers."""
    bus.write64(_NS, run, flags)
    bus.write(_NS, run + 0x200, _ENTER.pack(*gprs, hcr, *lrs))


def read_exit(bus: Bus, run: int) -> Exit:
    """Read RmiRecExit. Most records have no list registers in use and few registers: zeros are not taken apart."""
    page = bus.read(_NS, run + _EXIT, _EXIT_END)
    return Exit._make(
        (
            page[0],
            *_SYNDROME.unpack_from(page, 0x100),
            _NO_GPRS if page[_GPRS_PLACE] == _ZERO_GPRS else _GPRS.unpack_from(page, 0x200),
            *_WORD.unpack_from(page, 0x300),
            _NO_LISTS if page[_LISTS_PLACE] == _ZERO_LISTS else _LISTS.unpack_from(page, 0x308),
            *_PAIR.unpack_from(page, 0x388),
            *_TIMERS.unpack_from(page, 0x400),
            *_RIPAS.unpack_from(page, 0x500),
            page[0x600] | page[0x601] << 8,
        )
    )
