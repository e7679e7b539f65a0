"""The emulated machine of a guest: GICv3 and PL011 at the addresses of :mod:`realmkit.host.vmm.layout`."""

from realmkit.devices.gic import Gicv3
from realmkit.devices.pl011 import Pl011
from realmkit.host.guest import DeviceWindow, GuestDevices
from realmkit.host.vmm import layout
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.devicetree import vcpu_mpidr
from realmkit.host.vmm.layout import VmConfig


def build_devices(config: VmConfig, console: Console) -> GuestDevices:
    """Devices for a configuration; virtio devices are added by whoever has their backends."""
    gic = Gicv3([vcpu_mpidr(n) for n in range(config.vcpus)], spis=layout.SPIS)
    uart = Pl011(console.write, lambda level: gic.set_spi(layout.UART_INTID, level))
    console.attach(uart.feed, uart.feed_break)
    return GuestDevices(
        gic,
        [
            DeviceWindow("uart", layout.UART_BASE, layout.UART_SIZE, uart),
            DeviceWindow("gicd", layout.GICD_BASE, layout.GICD_SIZE, gic.distributor),
            DeviceWindow("gicr", config.gicr_base, layout.GICR_SIZE * config.vcpus, gic.redistributors),
        ],
        poll=console.poll,
    )
