"""The devicetree of a guest: memory, VCPUs, PSCI by SMC, GICv3, timer, PL011, virtio (Devicetree Specification 0.4).

Seeds for randomness in it are fixed, so that a run can be repeated and a RIM predicted. They come from the Host and
are known to everyone: a Realm must not count them as entropy (``random.trust_bootloader=off`` tells Linux so).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import fdt

from realmkit.arch.errors import RealmkitError
from realmkit.arch.gic import PPI_CNTHP, PPI_CNTP, PPI_CNTV
from realmkit.host.vmm import layout
from realmkit.host.vmm.layout import VmConfig
from realmkit.host.vmm.virtio import VirtioRegion

_GIC_PHANDLE = 1
_CLOCK_PHANDLE = 2
_SPI, _PPI = 0, 1
_LEVEL_HIGH = 4
_CLOCK_HZ = 24_000_000
MAX_BOOTARGS: Final = 2047
"""Linux takes 2048 bytes of kernel parameters, with the NUL at their end."""
RNG_SEED: Final = hashlib.sha512(b"realmkit devicetree rng-seed").digest()
KASLR_SEED: Final = hashlib.sha256(b"realmkit devicetree kaslr-seed").digest()[:8]


def vcpu_mpidr(index: int) -> int:
    """MPIDR affinity of a VCPU: 16 in each cluster, as RECs are numbered."""
    return (index & 15) | (index >> 4) << 8


def build(
    config: VmConfig,
    bootargs: str = "",
    virtio: Sequence[VirtioRegion] = (),
    initrd: tuple[int, int] | None = None,
) -> bytes:
    """A flattened devicetree for a configuration; the same arguments give the same bytes.

    ``initrd`` is the range [start, end) that holds the initial RAM disk.
    """
    if not bootargs.isascii() or "\0" in bootargs or len(bootargs) > MAX_BOOTARGS:
        raise RealmkitError(f"kernel parameters are at most {MAX_BOOTARGS} ASCII characters, without NUL")
    tree = fdt.FDT()
    root = tree.root
    root.append(fdt.PropWords("interrupt-parent", _GIC_PHANDLE))
    root.append(fdt.PropStrings("compatible", "linux,dummy-virt"))
    root.append(fdt.PropWords("#address-cells", 2))
    root.append(fdt.PropWords("#size-cells", 2))
    _node(root, "chosen", *_chosen(bootargs, initrd))
    _node(
        root,
        f"memory@{layout.RAM_BASE:x}",
        fdt.PropStrings("device_type", "memory"),
        _reg(layout.RAM_BASE, config.memory),
    )
    cpus = _node(root, "cpus", fdt.PropWords("#address-cells", 1), fdt.PropWords("#size-cells", 0))
    for index in range(config.vcpus):
        mpidr = vcpu_mpidr(index)
        _node(
            cpus,
            f"cpu@{mpidr:x}",
            fdt.PropStrings("device_type", "cpu"),
            fdt.PropStrings("compatible", "arm,arm-v8"),
            fdt.PropStrings("enable-method", "psci"),
            fdt.PropWords("reg", mpidr),
        )
    _node(root, "psci", fdt.PropStrings("compatible", "arm,psci-1.0", "arm,psci-0.2"), fdt.PropStrings("method", "smc"))
    _node(
        root,
        f"intc@{layout.GICD_BASE:x}",
        fdt.PropStrings("compatible", "arm,gic-v3"),
        fdt.PropWords("#interrupt-cells", 3),
        fdt.Property("interrupt-controller"),
        _reg(layout.GICD_BASE, layout.GICD_SIZE, config.gicr_base, layout.GICR_SIZE * config.vcpus),
        fdt.PropWords("phandle", _GIC_PHANDLE),
    )
    # Secure, Non-secure, virtual and hypervisor timer, in this order.
    timers = [word for intid in (29, PPI_CNTP, PPI_CNTV, PPI_CNTHP) for word in (_PPI, intid - 16, _LEVEL_HIGH)]
    _node(
        root,
        "timer",
        fdt.PropStrings("compatible", "arm,armv8-timer"),
        fdt.PropWords("interrupts", *timers),
        fdt.Property("always-on"),
    )
    _node(
        root,
        "clock",
        fdt.PropStrings("compatible", "fixed-clock"),
        fdt.PropWords("#clock-cells", 0),
        fdt.PropWords("clock-frequency", _CLOCK_HZ),
        fdt.PropWords("phandle", _CLOCK_PHANDLE),
    )
    _node(
        root,
        f"pl011@{layout.UART_BASE:x}",
        fdt.PropStrings("compatible", "arm,pl011", "arm,primecell"),
        _reg(layout.UART_BASE, layout.UART_SIZE),
        fdt.PropWords("interrupts", _SPI, layout.UART_INTID - 32, _LEVEL_HIGH),
        fdt.PropWords("clocks", _CLOCK_PHANDLE, _CLOCK_PHANDLE),
        fdt.PropStrings("clock-names", "uartclk", "apb_pclk"),
    )
    for region in virtio:
        _node(
            root,
            f"virtio@{region.base:x}",
            fdt.PropStrings("compatible", "virtio,mmio"),
            _reg(region.base, region.size),
            fdt.PropWords("interrupts", _SPI, region.intid - 32, _LEVEL_HIGH),
            fdt.Property("dma-coherent"),
        )
    blob: bytes = tree.to_dtb(version=17)
    return blob


def _chosen(bootargs: str, initrd: tuple[int, int] | None) -> Iterator[fdt.Property]:
    yield fdt.PropStrings("stdout-path", f"/pl011@{layout.UART_BASE:x}")
    if bootargs:
        yield fdt.PropStrings("bootargs", bootargs)
    if initrd is not None:
        yield _cells("linux,initrd-start", initrd[0])
        yield _cells("linux,initrd-end", initrd[1])
    yield fdt.PropBytes("rng-seed", data=RNG_SEED)
    yield fdt.PropBytes("kaslr-seed", data=KASLR_SEED)


def _cells(name: str, *values: int) -> fdt.PropWords:
    """Values of two cells each."""
    return fdt.PropWords(name, *(word for value in values for word in (value >> 32, value & 0xFFFF_FFFF)))


def _reg(*values: int) -> fdt.PropWords:
    """Addresses and sizes."""
    return _cells("reg", *values)


def _node(parent: fdt.Node, name: str, *properties: fdt.Property) -> fdt.Node:
    node = fdt.Node(name)
    for prop in properties:
        node.append(prop)
    parent.append(node)
    return node
