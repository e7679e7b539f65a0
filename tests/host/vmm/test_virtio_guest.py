"""Guests whose code drives a virtio device: what the device reaches of a Realm's memory, and of a VM's."""

import pytest

from realmkit.arch.rmi import Ripas
from realmkit.arch.rsi import Rsi
from realmkit.devices.virtio.transport import DEVICE_NEEDS_RESET, INTERRUPT_CONFIG, INTERRUPT_USED, Register
from realmkit.host.hypervisor import Outcome
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.host.vmm.virtio import VirtioDevices
from tests.host.code import Code
from tests.host.kit import IO, MIB, UNPROTECTED, Guest, World, program

RINGS = RAM_BASE + 4 * MIB
"""The page that the guest shares: descriptor table, driver and device areas, a buffer."""
DRIVER_AREA, DEVICE_AREA, BUFFER = 0x400, 0x800, 0xC00
PRIVATE = RAM_BASE + 5 * MIB
SECRET = 0x5EC2_E75E_C2E7
ENTROPY = 1
"""Which of the devices is driven."""


def _ignore(data: bytes) -> None:
    """Output that nobody reads."""


class Bench:
    def __init__(self) -> None:
        self.world = World()
        self.virtio = VirtioDevices(_ignore, _ignore, seed=b"seed")
        self.registers = self.virtio.regions[ENTROPY].base

    def guest(self, code: Code, *, realm: bool) -> Guest:
        config = VmConfig(8 * MIB)
        devices, probe, console = self.world.devices(config)
        self.virtio.attach(devices, access_platform=realm)
        plan = self.world.plan(program(code, realm=realm), config, virtio=self.virtio.regions)
        create = self.world.hv.create if realm else self.world.hv.create_vm
        return Guest(create(plan, devices), probe, console, devices, plan)

    def run(self, code: Code, *, realm: bool = True) -> list[int]:
        """What the guest reported; the world must be clean behind it."""
        guest = self.guest(code, realm=realm)
        assert self.world.run(guest).outcome is Outcome.POWERED_OFF
        self.world.destroy(guest)
        self.world.assert_clean()
        return guest.values


def set_up(registers: int, rings: int, alias: int) -> Code:
    """Negotiate, and make queue 0 of a device at ``registers`` with its rings in the page at ``rings``."""
    code = Code().mov(10, alias | registers)

    def put(register: int, value: int) -> None:
        code.mov(11, value).store(11, 10, register, 4)

    put(Register.STATUS, 3)
    put(Register.DRIVER_FEATURES_SEL, 1)
    put(Register.DRIVER_FEATURES, 3 if alias else 1)
    put(Register.STATUS, 11)
    put(Register.QUEUE_NUM, 8)
    for register, address in (
        (Register.QUEUE_DESC_LOW, rings),
        (Register.QUEUE_DRIVER_LOW, rings + DRIVER_AREA),
        (Register.QUEUE_DEVICE_LOW, rings + DEVICE_AREA),
    ):
        put(register, address & 0xFFFF_FFFF)
        put(register + 4, address >> 32)
    put(Register.QUEUE_READY, 1)
    put(Register.STATUS, 15)
    return code


def fill(code: Code, rings: int, buffer: int, index: int = 1) -> Code:
    """Offer descriptor 0: 64 bytes at ``buffer`` to write; then notify."""
    code.mov(12, rings)
    code.mov(11, buffer).store(11, 12, 0).mov(11, 64).store(11, 12, 8, 4).mov(11, 2).store(11, 12, 12, 4)
    code.mov(11, index).store(11, 12, DRIVER_AREA + 2, 2)
    return code.mov(11, 0).store(11, 10, Register.QUEUE_NOTIFY, 4)


def report(code: Code, address: int) -> Code:
    """Report the used index, Status, InterruptStatus and 8 bytes at ``address``."""
    code.load(11, 12, DEVICE_AREA + 2, 2).store(11, IO)
    for register in (Register.STATUS, Register.INTERRUPT_STATUS):
        code.load(11, 10, register, 4).store(11, IO)
    return code.mov(13, address).load(11, 13).store(11, IO)


def set_ripas(code: Code, page: int, ripas: Ripas) -> Code:
    return code.call(Rsi.IPA_STATE_SET, page, page + 0x1000, ripas, 1)


def realm_driver(bench: Bench, buffer: int, look_at: int) -> Code:
    """A Realm that shares the rings, keeps a secret, and has the device write to ``buffer``."""
    code = Code().mov(11, PRIVATE).mov(13, SECRET).store(13, 11)
    set_ripas(code, RINGS, Ripas.EMPTY)
    rings = UNPROTECTED | RINGS
    code.word(*_words(set_up(bench.registers, rings, UNPROTECTED)))
    return report(fill(code, rings, buffer), look_at)


def _words(code: Code) -> list[int]:
    data = code.bytes()
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


def test_a_device_fills_a_shared_buffer() -> None:
    bench = Bench()
    buffer = UNPROTECTED | RINGS | BUFFER
    used, status, pending, content = bench.run(realm_driver(bench, buffer, buffer))
    assert (used, status, pending) == (1, 15, INTERRUPT_USED)
    assert content not in (0, SECRET)
    assert bench.virtio.reports == []


@pytest.mark.parametrize(
    "buffer",
    [
        PRIVATE,
        UNPROTECTED | PRIVATE,
        RAM_BASE,
        UNPROTECTED | 0x0100_0000,
        2 * UNPROTECTED | RINGS | BUFFER,
        (1 << 64) - 64,
    ],
)
def test_a_device_gets_nothing_that_is_not_shared(buffer: int) -> None:
    bench = Bench()
    used, status, pending, content = bench.run(realm_driver(bench, buffer, PRIVATE))
    assert (used, status, pending) == (0, 15 | DEVICE_NEEDS_RESET, INTERRUPT_CONFIG)
    assert content == SECRET
    assert bench.virtio.reports == [
        f"virtio-rng: queue 0 stopped: write of 64 bytes at guest address {buffer:#x}, which the guest does not share"
    ]


def test_what_a_realm_takes_back_is_out_of_reach() -> None:
    """The rings themselves stop being shared between two requests."""
    bench = Bench()
    rings = UNPROTECTED | RINGS
    code = realm_driver(bench, rings | BUFFER, rings | BUFFER)
    set_ripas(code, RINGS, Ripas.RAM)
    code.mov(13, RINGS).mov(11, SECRET).store(11, 13)
    code.mov(11, 0).store(11, 10, Register.QUEUE_NOTIFY, 4)
    code.load(11, 13).store(11, IO).load(11, 10, Register.STATUS, 4).store(11, IO)
    assert bench.run(code)[4:] == [SECRET, 15 | DEVICE_NEEDS_RESET]
    assert len(bench.virtio.reports) == 1
    assert f"queue 0 stopped: read of 4 bytes at guest address {rings + DRIVER_AREA:#x}" in bench.virtio.reports[0]


@pytest.mark.parametrize(("buffer", "served"), [(PRIVATE, True), (RAM_BASE + 8 * MIB, False), (0x0100_0000, False)])
def test_a_vm_shares_all_its_ram_and_nothing_else(buffer: int, served: bool) -> None:
    bench = Bench()
    code = set_up(bench.registers, RINGS, 0)
    used, status, _, content = bench.run(report(fill(code, RINGS, buffer), PRIVATE), realm=False)
    assert used == int(served)
    assert bool(status & DEVICE_NEEDS_RESET) is not served
    assert bool(content) is served
    assert bool(bench.virtio.reports) is not served
