"""GICv3 distributor registers (Arm IHI 0069, 12.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realmkit.arch.fields import RegisterTable
from realmkit.arch.gic import FIRST_SPI, GROUP0, GROUP1, GROUP1_SECURE
from realmkit.devices.gic.identification import IIDR, read_identification

if TYPE_CHECKING:
    from realmkit.devices.gic.gicv3 import Gicv3

DISTRIBUTOR_SIZE = 0x1_0000

_CTLR, _TYPER, _IIDR = 0x0000, 0x0004, 0x0008
_BANK = range(0x0080, 0x0E00)
_IROUTER = range(0x6000, 0x8000)
_IDENTIFICATION = range(0xFFD0, 0x1_0000)

_CTLR_NS = RegisterTable("GICD_CTLR", EnableGrp1A=(1, 1), ARE_NS=(4, 4))
_CTLR_SECURE = RegisterTable(
    "GICD_CTLR", EnableGrp0=(0, 0), EnableGrp1NS=(1, 1), EnableGrp1S=(2, 2), ARE_S=(4, 4), ARE_NS=(5, 5)
)
_CTLR_SINGLE = RegisterTable("GICD_CTLR", EnableGrp0=(0, 0), EnableGrp1=(1, 1), ARE=(4, 4), DS=(6, 6))
_TYPER_FIELDS = RegisterTable(
    "GICD_TYPER", ITLinesNumber=(0, 4), SecurityExtn=(10, 10), IDbits=(19, 23), A3V=(24, 24), RSS=(26, 26)
)
_INTID_BITS = 10


class DistributorFrame:
    """The 64 KB distributor frame as software of one security state sees it.

    Registers are 32 bits wide; IPRIORITYR also answers bytes and halfwords; IROUTER is 64 bits wide and also answers
    words. Affinity routing cannot be switched off: GICD_CTLR.ARE_* read as one. Writes complete at once: RWP is zero.
    """

    __slots__ = ("_gic", "_non_secure")

    def __init__(self, gic: Gicv3, *, non_secure: bool) -> None:
        self._gic = gic
        self._non_secure = non_secure

    def read(self, offset: int, size: int) -> int:
        """Value of a register."""
        if offset in _BANK:
            return self._gic.shared.read(offset, size, non_secure=self._non_secure)
        if offset in _IROUTER:
            return self._read_route(offset, size)
        if size != 4:
            return 0
        if offset == _CTLR:
            return self._read_ctlr()
        if offset == _TYPER:
            return self._read_typer()
        if offset == _IIDR:
            return IIDR
        return read_identification(offset) if offset in _IDENTIFICATION else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        gic = self._gic
        if offset in _BANK:
            gic.shared.write(offset, size, value, non_secure=self._non_secure, modifier=gic.two_security_states)
            gic.changed_all()
        elif offset in _IROUTER:
            self._write_route(offset, size, value)
        elif offset == _CTLR and size == 4:
            self._write_ctlr(value)

    def _read_ctlr(self) -> int:
        groups = self._gic.groups
        group0, group1, group1_secure = groups >> GROUP0 & 1, groups >> GROUP1 & 1, groups >> GROUP1_SECURE & 1
        if self._non_secure:
            return _CTLR_NS.make(EnableGrp1A=group1, ARE_NS=1)
        if self._gic.two_security_states:
            return _CTLR_SECURE.make(
                EnableGrp0=group0, EnableGrp1NS=group1, EnableGrp1S=group1_secure, ARE_S=1, ARE_NS=1
            )
        return _CTLR_SINGLE.make(EnableGrp0=group0, EnableGrp1=group1, ARE=1, DS=1)

    def _write_ctlr(self, value: int) -> None:
        gic = self._gic
        if self._non_secure:
            group1 = _CTLR_NS.get(value, "EnableGrp1A") << GROUP1
            gic.set_groups(gic.groups & ~(1 << GROUP1) | group1)
        elif gic.two_security_states:
            gic.set_groups(
                _CTLR_SECURE.get(value, "EnableGrp0") << GROUP0
                | _CTLR_SECURE.get(value, "EnableGrp1NS") << GROUP1
                | _CTLR_SECURE.get(value, "EnableGrp1S") << GROUP1_SECURE
            )
        else:
            gic.set_groups(
                _CTLR_SINGLE.get(value, "EnableGrp0") << GROUP0 | _CTLR_SINGLE.get(value, "EnableGrp1") << GROUP1
            )

    def _read_typer(self) -> int:
        gic = self._gic
        return _TYPER_FIELDS.make(
            ITLinesNumber=(gic.spis + 31) // 32,
            SecurityExtn=int(gic.two_security_states),
            IDbits=_INTID_BITS - 1,
            A3V=1,
            RSS=1,
        )

    def _route_index(self, offset: int) -> int | None:
        index = (offset - _IROUTER.start) // 8 - FIRST_SPI
        if not 0 <= index < self._gic.spis:
            return None
        return index if not self._non_secure or self._gic.shared.group1 >> index & 1 else None

    def _read_route(self, offset: int, size: int) -> int:
        index = self._route_index(offset)
        if index is None or size not in (4, 8) or offset % size:
            return 0
        return self._gic.routes[index] >> 8 * (offset & 7) & ((1 << 8 * size) - 1)

    def _write_route(self, offset: int, size: int, value: int) -> None:
        index = self._route_index(offset)
        if index is None or size not in (4, 8) or offset % size:
            return
        shift = 8 * (offset & 7)
        kept = self._gic.routes[index] & ~(((1 << 8 * size) - 1) << shift)
        self._gic.set_route(index, kept | value << shift)
