"""A launch from configuration to report: boot, create, run, attest, destroy. No terminal here.

Phases are announced to a :class:`Watcher`; the result is a :class:`Launch` that holds everything the report says.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from realmkit.arch.errors import RealmkitError
from realmkit.arch.events import Event, ExceptionTaken, GptChange, Measured
from realmkit.arch.pas import Pas
from realmkit.arch.plan import LaunchPlan
from realmkit.arch.rmi import HashAlgorithm
from realmkit.attestation import Expectations, ExpectedComponent, TrustAnchor, Verdict, predict_rim, verify
from realmkit.cli.guest import Guest, Request, build
from realmkit.cli.observers import Counts, ExceptionLoop
from realmkit.host.hypervisor import Hypervisor, Outcome, RunningGuest, RunResult
from realmkit.host.physical_gic import PhysicalGic
from realmkit.host.vmm.console import Console
from realmkit.machine.platforms import BANK0_MAX, DRAM_STEP, GIB, fvp
from realmkit.stack import Stack, assemble

REPORT_SCHEMA: Final = 1
DIGEST_SIZES: Final = {HashAlgorithm.SHA_256: 32, HashAlgorithm.SHA_512: 64}
NO_RSI: Final = (
    "the kernel did not ask for the RSI: it has no support for Realms (Linux has since 6.13), or did not come so far"
)
HASH_NAMES: Final = {HashAlgorithm.SHA_256: "sha-256", HashAlgorithm.SHA_512: "sha-512"}


class Watcher(Protocol):
    """Sees a launch as it goes."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def console(self, data: bytes) -> None:
        """The Realm printed something."""


@dataclass(slots=True)
class Measurements:
    """RIM and REMs as the RMM's events tell them: an observer."""

    values: dict[int, bytes] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        if isinstance(event, Measured):
            self.values[event.index] = event.value


@dataclass(slots=True)
class RealmGranules:
    """Granules that the Monitor has moved into the Realm PAS and not back: an observer."""

    held: set[int] = field(default_factory=set)

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        if isinstance(event, GptChange):
            if event.after == Pas.REALM.name:
                self.held.add(event.pa)
            else:
                self.held.discard(event.pa)


@dataclass(slots=True)
class Launch:
    """A launch and what came of it; members that were not reached stay None."""

    request: Request
    stack: Stack
    counts: Counts
    loop: ExceptionLoop
    measured: Measurements = field(default_factory=Measurements)
    granules: RealmGranules = field(default_factory=RealmGranules)
    console: Console = field(default_factory=Console)
    times: dict[str, float] = field(default_factory=dict)
    guest: Guest | None = None
    result: RunResult | None = None
    verdict: Verdict | None = None
    not_scrubbed: int = 0
    ticks: int = 0

    @property
    def outcome(self) -> tuple[str, str]:
        """(outcome, reason); the outcome is ``ok`` only when every promise held."""
        result, guest, request = self.result, self.guest, self.request
        if result is None or guest is None:
            return "failed", "the guest did not run"
        if self.loop.description:
            return "crashed", self.loop.description
        if result.outcome is not Outcome.POWERED_OFF:
            return self._broken(result, guest)
        if guest.failure:
            return "failed", guest.failure
        if self.verdict is None and request.attest and request.realm:
            return "not-attested", "the Realm handed out no attestation token"
        if self.verdict is not None and not self.verdict.verified:
            bad = next(check for check in self.verdict.checks if not check.ok)
            return "not-verified", f"the token does not verify: {bad.name}: {bad.status}"
        if self.granules.held or self.not_scrubbed:
            return "not-clean", "granules were left in the Realm world or came back with contents"
        return "ok", result.reason

    def _broken(self, result: RunResult, guest: Guest) -> tuple[str, str]:
        """(outcome, reason) of a run that did not end with power off, with what helps to understand it."""
        outcome, reason = result.outcome.value, result.reason
        if guest.crash and result.outcome is Outcome.RESET:
            outcome, reason = "crashed", f"{guest.crash} ({reason})"
        if self.request.kernel and self.request.realm and not self.counts.rsi:
            reason += f"; {NO_RSI}"
        return outcome, reason

    def observe(self) -> None:
        """Let the machine's events reach what the report is made of."""
        for observer, kinds in (
            (self.counts, Counts.KINDS),
            (self.loop, (ExceptionTaken,)),
            (self.measured, (Measured,)),
            (self.granules, (GptChange,)),
        ):
            self.stack.events.subscribe(observer, detailed=False, kinds=kinds)

    def ask_to_power_off(self) -> bool:
        """Whether the guest is there and can hear that it should power off."""
        return self.guest is not None and self.guest.ask_to_power_off()

    def report(self) -> dict[str, Any]:
        """The report in the form of its schema (docs/reference.md)."""
        config = self.request.config
        digest = DIGEST_SIZES[config.hash_algo]
        outcome, reason = self.outcome
        verdict = self.verdict
        return {
            "schema": REPORT_SCHEMA,
            "outcome": outcome,
            "reason": reason,
            "realm": {
                "ipa_width": None if self.guest is None else self.guest.plan.realm.ipa_width,
                "hash_algo": HASH_NAMES[config.hash_algo],
                "rim": self.measured.values.get(0, bytes(64))[:digest].hex(),
                "rem": [self.measured.values.get(n, bytes(64))[:digest].hex() for n in range(1, 5)],
                "rpv": config.rpv.ljust(64, b"\0").hex(),
                "vcpus": config.vcpus,
            },
            "attestation": {"verified": False, "token_bytes": 0, "checks": []}
            if verdict is None
            else verdict.as_dict(),
            "console": self.console.text,
            "counts": {**self.counts.as_dict(), "ticks": self.ticks},
            "time": {
                f"{name}_s": round(self.times.get(name, 0.0), 6) for name in ("create", "run", "destroy", "total")
            },
            "teardown": {"granules_not_ns": len(self.granules.held), "granules_not_scrubbed": self.not_scrubbed},
            "guest": {} if self.guest is None else self.guest.facts(),
        }


def default_challenge(seed: int) -> bytes:
    """The owner's nonce where none is given: fixed by the seed, so that runs can be repeated."""
    return hashlib.sha512(f"realmkit challenge {seed}".encode()).digest()


def platform_dram(guest_memory: int) -> int:
    """DRAM of the platform for a guest: twice its memory, at least 4 GiB."""
    wanted = max(4 * GIB, 2 * guest_memory, BANK0_MAX)
    return -(-wanted // DRAM_STEP) * DRAM_STEP


def prepare(request: Request, watcher: Watcher) -> Launch:
    """Boot a machine for a request, with the observers that the report needs."""
    watcher.phase("boot")
    platform = fvp(platform_dram(request.config.memory))
    stack = assemble(platform, seed=request.seed, cpak=request.platform_key)
    launch = Launch(request, stack, Counts(), ExceptionLoop())
    launch.console = Console(watcher.console)
    launch.observe()
    return launch


def execute(launch: Launch, hypervisor: Hypervisor, watcher: Watcher) -> None:
    """Create, run, destroy and verify. Raises RealmkitError for a request that cannot be; nothing is left then."""
    started = time.perf_counter()
    request = launch.request
    with ExitStack() as closing:
        guest = build(request, request.config.realm(hypervisor.rmi.features()), launch.console, closing)
        launch.guest = guest
        watcher.phase("create" if request.realm else "create-vm")
        create = hypervisor.create if request.realm else hypervisor.create_vm
        with _timed(launch, "create"):
            running: RunningGuest = create(guest.plan, guest.devices)
        try:
            guest.started(hypervisor, running)
            watcher.phase("run" if request.realm else "run-vm")
            launch.loop.on_loop = hypervisor.stop
            with _timed(launch, "run"):
                launch.result = _run(hypervisor, running, request.max_ticks)
        finally:
            watcher.phase("destroy" if request.realm else "destroy-vm")
            with _timed(launch, "destroy"):
                hypervisor.destroy(running)
            launch.not_scrubbed = hypervisor.memory.not_scrubbed
            launch.ticks = hypervisor.port.now()
    if guest.token:
        watcher.phase("verify")
        launch.verdict = _appraise(launch, guest.plan, guest.token)
    launch.times["total"] = time.perf_counter() - started


def _appraise(launch: Launch, built: LaunchPlan, token: bytes) -> Verdict:
    """The owner's judgement: RIM from the plan, platform identity and firmware as its vendor endorses them."""
    platform = launch.stack.attestation
    config = launch.request.config
    return verify(
        token,
        trust_anchor=TrustAnchor.from_pem(
            launch.stack.trust_anchor_pem(),
            implementation_id=platform.implementation_id,
            instance_id=platform.instance_id,
        ),
        challenge=launch.request.challenge,
        expected=Expectations(
            rim=predict_rim(built),
            rpv=config.rpv.ljust(64, b"\0"),
            hash_algo=HASH_NAMES[config.hash_algo],
            config=platform.config,
            components=tuple(
                ExpectedComponent(part.measurement, part.kind, part.version) for part in platform.components
            ),
        ),
    )


def make_hypervisor(launch: Launch) -> Hypervisor:
    """The Host of a launch, on the primary PE, with all Non-secure memory."""
    platform = launch.stack.machine.platform
    return Hypervisor(
        launch.stack.host_port(),
        [(part.base, part.size) for part in platform.nonsecure_ram()],
        PhysicalGic(platform.device("gicd").base, platform.device("gicr").base),
    )


def _run(hypervisor: Hypervisor, running: RunningGuest, max_ticks: int | None) -> RunResult:
    try:
        return hypervisor.run(running, max_ticks=max_ticks)
    except RealmkitError as error:
        return RunResult(Outcome.FAILED, str(error))


@contextmanager
def _timed(launch: Launch, name: str) -> Iterator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        launch.times[name] = time.perf_counter() - begin
