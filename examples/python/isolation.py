"""A Host that tries to look into a Realm, and what it meets: every way in ends in the architecture's fault.

Run it with `python examples/python/isolation.py`. It uses the library as a hypervisor engineer would.
"""

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import Rmi
from realmkit.host.hypervisor import Hypervisor
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.vmm import images
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.launch import plan
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.host.vmm.machine import build_devices
from realmkit.machine.port import GranuleProtectionFault
from realmkit.realm import embedded_payload
from realmkit.stack import assemble


def attempt(what: str, action: object) -> None:
    """Try something and print how it ends."""
    try:
        print(f"{what}: {action()!r}")  # type: ignore[operator]
    except GranuleProtectionFault as fault:
        print(f"{what}: {fault}")


def main() -> None:
    """Build a Realm from the embedded payload and attack it from the Non-secure world."""
    stack = assemble()
    port, platform = stack.host_port(), stack.machine.platform
    gic = PhysicalGic(platform.device("gicd").base, platform.device("gicr").base)
    hypervisor = Hypervisor(port, [(part.base, part.size) for part in platform.nonsecure_ram()], gic)
    config = VmConfig(memory=64 << 20)
    image = images.load(embedded_payload(), "payload", RAM_BASE, config.ram_top)
    running = hypervisor.create(
        plan(config, config.realm(hypervisor.rmi.features()), image), build_devices(config, Console())
    )
    realm = running.realm
    page = realm.data[image.entry]
    table = realm.tables[3, RAM_BASE]

    attempt("Host reads a page of the Realm", lambda: port.bus.read(Pas.NS, page, 16))
    attempt("Host writes a page of the Realm", lambda: port.bus.write(Pas.NS, page, b"mine"))
    attempt("Host writes a translation table entry", lambda: port.bus.write64(Pas.NS, table, 0))
    disk = stack.machine.dma("disk", Pas.NS)
    attempt("DMA of a disk reads the page", lambda: disk.read(page, 16))
    attempt("DMA of a disk writes the page", lambda: disk.write(page, b"mine"))
    for command, arguments in (
        (Rmi.GRANULE_UNDELEGATE, (page,)),
        (Rmi.GRANULE_DELEGATE, (platform.rmm.base,)),
        (Rmi.DATA_CREATE, (realm.rd, page, image.entry, realm.params, 1)),
        (Rmi.RTT_MAP_UNPROTECTED, (realm.rd, image.entry, 3, page)),
    ):
        result = hypervisor.rmi.call(command, *arguments)
        print(f"RMI_{command.name}: {result.code} (condition {port.refusal})")
    hypervisor.destroy(running)
    attempt("Host reads the page after the Realm is gone", lambda: port.bus.read(Pas.NS, page, 16))


if __name__ == "__main__":
    main()
