"""A booted machine with a hypervisor, and guests whose code is a list of instructions.

Guest code reports to the test by stores to a :class:`Probe`, a register bank that the Host emulates: ``X20`` holds its
address when :func:`program` has run its prologue. The same code runs as a Realm and as a plain VM.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import LaunchPlan
from realmkit.arch.psci import SYSTEM_OFF
from realmkit.host.guest import DeviceWindow, GuestDevices
from realmkit.host.hypervisor import Hypervisor, RunningGuest, RunningRealm, RunningVm, RunResult
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.vmm import images, layout
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.launch import plan
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.host.vmm.machine import build_devices
from realmkit.machine.platform import Platform
from realmkit.machine.platforms import fvp, small
from realmkit.stack import Stack, assemble
from tests.host.code import Code

MIB = 1 << 20
PROBE = 0x0200_0000
ENTRY = RAM_BASE + images.FLAT_OFFSET
VECTORS = 0x800
"""Offset of the exception vectors from the start of a program."""
SYNC, IRQ = VECTORS + 0x200, VECTORS + 0x280
MAIN = 0x1000
"""Offset of a program after its vectors."""
IO = 20
"""X20: the probe."""
LIMIT = 300_000_000
UNPROTECTED = 1 << (layout.MIN_IPA_WIDTH - 1)


@dataclass(slots=True)
class Probe:
    """Registers that take what guest code reports, and give it what the test wants it to read."""

    writes: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset, size, value)."""
    inputs: list[int] = field(default_factory=list)
    on_write: Callable[[int, int], None] | None = None

    @property
    def values(self) -> list[int]:
        return [value for _, _, value in self.writes]

    def read(self, offset: int, size: int) -> int:
        return self.inputs.pop(0) if self.inputs else 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.writes.append((offset, size, value))
        if self.on_write is not None:
            self.on_write(offset, value)


def program(main: Code | None = None, *, realm: bool = True, irq: Code | None = None, sync: Code | None = None) -> Code:
    """A program that sets X20 and its vectors up, runs ``main`` and powers off.

    A synchronous exception reports 0xE, ESR, ELR and FAR, and powers off. ``irq`` and ``sync`` are
    bodies of other handlers.
    """
    code = Code().b("main")
    code.org(SYNC).b("sync").org(IRQ).b("irq")
    code.org(MAIN).label("sync")
    if sync is not None:
        code.word(*_words(sync))
    code.mov(9, 0xE).store(9, IO)
    for name in ("ESR_EL1", "ELR_EL1", "FAR_EL1"):
        code.mrs(9, name).store(9, IO)
    off(code)
    code.label("irq")
    if irq is not None:
        code.word(*_words(irq))
    code.eret()
    code.label("main")
    code.mov(IO, (UNPROTECTED if realm else 0) | PROBE)
    code.mov(9, ENTRY + VECTORS).msr("VBAR_EL1", 9).isb()
    code.word(*_words(main or Code()))
    return off(code)


def off(code: Code) -> Code:
    """PSCI SYSTEM_OFF."""
    return code.mov(0, SYSTEM_OFF).smc()


def say(code: Code, value: int) -> Code:
    """Report a constant."""
    return code.mov(9, value).store(9, IO)


def _words(code: Code) -> list[int]:
    data = code.bytes()
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


@dataclass(slots=True)
class Guest:
    """A guest in the making or running."""

    running: Any
    probe: Probe
    console: Console
    devices: GuestDevices
    plan: LaunchPlan

    @property
    def values(self) -> list[int]:
        return self.probe.values


class World:
    """A booted stack and its hypervisor."""

    def __init__(self, platform: Platform | None = None, stack: Stack | None = None) -> None:
        self.stack = assemble(small(128 * MIB) if platform is None else platform) if stack is None else stack
        machine = self.stack.machine.platform
        self.port = self.stack.host_port()
        self.hv = Hypervisor(
            self.port,
            [(part.base, part.size) for part in machine.nonsecure_ram()],
            PhysicalGic(machine.device("gicd").base, machine.device("gicr").base),
        )

    def plan(self, code: Code | bytes, config: VmConfig, **options: Any) -> LaunchPlan:
        content = code if isinstance(code, bytes) else code.bytes()
        image = images.load(content, "the test", RAM_BASE, config.ram_top)
        return plan(config, config.realm(self.hv.rmi.features()), image, **options)

    def devices(self, config: VmConfig) -> tuple[GuestDevices, Probe, Console]:
        console, probe = Console(), Probe()
        devices = build_devices(config, console)
        devices.windows.append(DeviceWindow("probe", PROBE, GRANULE_SIZE, probe))
        return devices, probe, console

    def realm(self, code: Code | bytes, *, memory: int = 8 * MIB, vcpus: int = 1) -> Guest:
        config = VmConfig(memory, vcpus)
        devices, probe, console = self.devices(config)
        built = self.plan(code, config)
        return Guest(self.hv.create(built, devices), probe, console, devices, built)

    def vm(self, code: Code | bytes, *, memory: int = 8 * MIB, vcpus: int = 1) -> Guest:
        config = VmConfig(memory, vcpus)
        devices, probe, console = self.devices(config)
        built = self.plan(code, config)
        return Guest(self.hv.create_vm(built, devices), probe, console, devices, built)

    def run(self, guest: Guest, max_ticks: int = LIMIT) -> RunResult:
        return self.hv.run(guest.running, max_ticks=self.port.now() + max_ticks)

    def run_all(self, guests: Iterable[Guest], max_ticks: int = LIMIT) -> list[RunResult]:
        running: list[RunningGuest] = [guest.running for guest in guests]
        return self.hv.run_all(running, max_ticks=self.port.now() + max_ticks)

    def destroy(self, *guests: Guest) -> None:
        for guest in guests:
            self.hv.destroy(guest.running)

    def assert_clean(self) -> None:
        """Nothing is left: granules Non-secure and scrubbed, all memory free, the RMM's books empty."""
        assert not self.hv.memory.delegated
        assert not self.hv.memory.not_scrubbed
        assert not self.hv.memory.used
        assert not self.stack.rmm.realms
        assert not self.stack.rmm.recs

    def read(self, guest: Guest, ipa: int, size: int = 8) -> bytes:
        """Contents of guest memory, by the machine's own eyes."""
        running = guest.running
        if isinstance(running, RunningVm):
            pa = running.vm.tables.find(ipa)
            assert pa is not None
            return self.port.bus.read(Pas.NS, pa, size)
        assert isinstance(running, RunningRealm)
        return self.stack.machine.memory.read(running.realm.data[ipa & -GRANULE_SIZE] + ipa % GRANULE_SIZE, size)


def big_world() -> World:
    """A world with 4 GiB of memory."""
    return World(fvp())
