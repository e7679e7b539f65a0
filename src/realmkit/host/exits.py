"""The RecRun page as a Host uses it: what it writes before an entry and reads after an exit (spec: rmi section 4.3)."""

import struct
from typing import NamedTuple

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason
from realmkit.machine.port import Bus

_ENTER = struct.Struct("<Q 504x 31Q 8x Q 16Q")
_PLAIN_ENTER = struct.Struct("<Q 504x Q 248x Q 128x")
"""The same while only the first register and no list register is in use."""
_EXIT = 0x800
_EXIT_END = 0x602
_PLAIN_EXIT = struct.Struct("<B 255x 3Q 232x Q 384x 2Q 104x 4Q")
_SYNDROME = struct.Struct("<3Q")
_GPRS = struct.Struct("<31Q")
_GIC = struct.Struct("<Q16QQQ")
_TIMERS = struct.Struct("<4Q")
_RIPAS = struct.Struct("<QQB")
_NS = Pas.NS
_NO_GPRS = (0,) * 31
_OTHER_GPRS = _NO_GPRS[1:]
_NO_LISTS = (0,) * 16
_GPRS_AND_LISTS = slice(0x208, 0x388)
"""From the second register to the last list register."""
_ZERO_GPRS_AND_LISTS = bytes(0x180)
_RIPAS_AND_IMM = slice(0x500, _EXIT_END)
_ZERO_RIPAS_AND_IMM = bytes(0x102)
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
    if lrs == _NO_LISTS and gprs[1:] == _OTHER_GPRS:
        bus.write(_NS, run, _PLAIN_ENTER.pack(flags, gprs[0], hcr))
    else:
        bus.write(_NS, run, _ENTER.pack(flags, *gprs, hcr, *lrs))


def read_exit(bus: Bus, run: int) -> Exit:
    """Read RmiRecExit. Most have nothing but a syndrome, one register and timers: zeros are not taken apart."""
    page = bus.read(_NS, run + _EXIT, _EXIT_END)
    if page[_GPRS_AND_LISTS] == _ZERO_GPRS_AND_LISTS and page[_RIPAS_AND_IMM] == _ZERO_RIPAS_AND_IMM:
        reason, esr, far, hpfar, gpr, misr, vmcr, p_ctl, p_cval, v_ctl, v_cval = _PLAIN_EXIT.unpack_from(page)
        gprs = (gpr, *_OTHER_GPRS) if gpr else _NO_GPRS
        return Exit(reason, esr, far, hpfar, gprs, 0, _NO_LISTS, misr, vmcr, p_ctl, p_cval, v_ctl, v_cval, 0, 0, 0, 0)
    gic = _GIC.unpack_from(page, 0x300)
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
            page[0x600] | page[0x601] << 8,
        )
    )
