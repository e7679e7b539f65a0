"""The platform's GICv3 as the hypervisor programs it: through its registers, on its own bus."""

from collections.abc import Iterable
from dataclasses import dataclass

from realmkit.arch.pas import Pas
from realmkit.machine.port import El2Port

_GICD_CTLR_ENABLE = 1 << 4 | 1 << 1
_SGI_FRAME = 0x1_0000
_FRAMES = 0x2_0000
_ISENABLER, _IPRIORITYR = 0x100, 0x400
_PRIORITY = 0x80


@dataclass(frozen=True, slots=True)
class PhysicalGic:
    """Base addresses of distributor and redistributors."""

    distributor: int
    redistributors: int

    def enable(self, port: El2Port, ppis: Iterable[int]) -> None:
        """Enable Group 1 and the given private interrupts on the PE of ``port``."""
        bus = port.bus
        frame = self.redistributors + port.index * _FRAMES + _SGI_FRAME
        bus.write(Pas.NS, self.distributor, _GICD_CTLR_ENABLE.to_bytes(4, "little"))
        mask = 0
        for intid in ppis:
            bus.write(Pas.NS, frame + _IPRIORITYR + intid, bytes([_PRIORITY]))
            mask |= 1 << intid
        bus.write(Pas.NS, frame + _ISENABLER, mask.to_bytes(4, "little"))
        port.write("ICC_PMR_EL1", 0xFF)
        port.write("ICC_IGRPEN1_EL1", 1)
