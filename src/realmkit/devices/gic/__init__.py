"""GICv3 (Arm IHI 0069): one distributor model, physical and virtual CPU interfaces."""

from realmkit.devices.gic.cpu_interface import CpuInterface
from realmkit.devices.gic.distributor import DISTRIBUTOR_SIZE
from realmkit.devices.gic.gicv3 import Gicv3, PendingInterrupt
from realmkit.devices.gic.redistributor import REDISTRIBUTOR_SIZE
from realmkit.devices.gic.virtual import VirtualCpuInterface, vtr

__all__ = [
    "DISTRIBUTOR_SIZE",
    "REDISTRIBUTOR_SIZE",
    "CpuInterface",
    "Gicv3",
    "PendingInterrupt",
    "VirtualCpuInterface",
    "vtr",
]
