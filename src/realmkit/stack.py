"""Puts the parts together: hardware, Monitor and RMM as one booted machine.

This and :mod:`realmkit.cli` are the only places that know all packages; the parts meet through ``machine.port``.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from realmkit.arch.errors import RealmkitError
from realmkit.arch.events import EventHub
from realmkit.machine.machine import Machine
from realmkit.machine.pe import NonSecurePort
from realmkit.machine.platform import Platform
from realmkit.machine.platforms import fvp
from realmkit.monitor.attestation import PlatformAttestation, PlatformKeys
from realmkit.monitor.monitor import Monitor, RealmWorld
from realmkit.rmm.rmm import Rmm


@dataclass(frozen=True, slots=True)
class Stack:
    """A booted machine: EL3 and R-EL2 are up, the Non-secure state is the caller's.

    A Python Host uses :meth:`host_port`; images are for :mod:`realmkit.baremetal`.
    """

    machine: Machine
    monitor: Monitor
    rmm: Rmm
    attestation: PlatformAttestation

    @property
    def events(self) -> EventHub:
        """Where to observe the machine."""
        return self.machine.events

    def host_port(self, pe: int = 0) -> NonSecurePort:
        """A PE as software at NS-EL2 sees it."""
        return self.machine.pes[pe].ns_port

    def trust_anchor_pem(self) -> bytes:
        """Public platform attestation key for the Realm's owner, in PEM form."""
        return self.attestation.trust_anchor_pem()

    def boot(self) -> None:
        """Cold boot of the Monitor and the RMM on the primary PE; raises RealmkitError when the RMM refuses."""
        pe = self.machine.pes[0]
        pe.boot(lambda: self.monitor.boot(pe.monitor_port, self.rmm, pe.realm_port))
        if self.monitor.realm_world is not RealmWorld.READY:
            raise RealmkitError("the RMM did not boot: the platform does not suit it")

    def on_power_up(self, start: Callable[[int, int, int], None]) -> None:
        """``start(pe, entry, context_id)`` makes what a PE runs at NS-EL2 after PSCI CPU_ON, when its RMM is up."""

        def power_up(target: int, entry: int, context_id: int) -> None:
            pe = self.machine.pes[target]
            pe.boot(lambda: self.monitor.warm_boot(pe.monitor_port, pe.realm_port))
            start(target, entry, context_id)

        self.machine.on_power_up(power_up)


def platform_attestation(platform: Platform, keys: PlatformKeys) -> PlatformAttestation:
    """Platform identity as claims: the implementation identifier names the platform, the config its properties."""
    implementation = hashlib.sha256(f"realmkit platform {platform.name}".encode()).digest()
    config = f"{platform.name} pa_bits={platform.pa_bits}".encode()
    return PlatformAttestation(keys, implementation_id=implementation, config=config)


def assemble(
    platform: Platform | None = None,
    *,
    seed: int = 0,
    cpak: Path | None = None,
    events: EventHub | None = None,
    output: Callable[[int, bytes], None] | None = None,
    boot: bool = True,
) -> Stack:
    """Make a machine of ``platform`` (default: fvp) with Monitor and RMM, and boot it.

    ``seed`` derives the platform's keys, unless ``cpak`` names a PEM file with the platform attestation key.
    ``output(uart, bytes)`` gets what is printed on the board's UARTs.
    """
    board = fvp() if platform is None else platform
    machine = Machine(board, events=events) if output is None else Machine(board, events=events, output=output)
    keys = PlatformKeys.from_seed(seed) if cpak is None else PlatformKeys.from_pem(cpak, seed)
    attestation = platform_attestation(board, keys)
    monitor = Monitor(board, machine.gpc, attestation)
    rmm = Rmm()
    machine.install(monitor, rmm)
    stack = Stack(machine, monitor, rmm, attestation)
    if boot:
        stack.boot()
    return stack
