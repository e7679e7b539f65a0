"""A machine whose Host is an image: power-on, resets, and how it ended (spec: host-platform).

A reset rebuilds everything but the non-volatile range: memory holds the images again, the Monitor and the RMM boot
again, no Realm is left. Virtual time goes on, so that limits and traces span resets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from realmkit.arch.errors import RealmkitError
from realmkit.arch.events import EventHub
from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.baremetal.diagnosis import Diagnosis, call_name, diagnose
from realmkit.baremetal.images import PlacedImage, check_placement
from realmkit.baremetal.nonvolatile import NonVolatile
from realmkit.machine.context import PSTATE_RESET_EL2, CpuContext
from realmkit.machine.machine import Machine
from realmkit.machine.platform import AddressRange
from realmkit.machine.platforms import fvp
from realmkit.machine.scheduler import IdleForeverError
from realmkit.stack import Stack, assemble

DTB_ALIGNMENT = 2 << 20
SCTLR_EL2_RESET = 0x30C5_0830
SCTLR_EL1_RESET = 0x30D0_0800
HCR_EL2_RESET = 1 << 31
"""RW: EL1 is AArch64, there is nothing else."""
FUTILE_RESETS = 8
"""Resets in a row that left the non-volatile memory as it was: every further one would do the same."""


class Outcome(Enum):
    """How a run ended."""

    POWER_OFF = "power-off"
    TEXT_SEEN = "text-seen"
    IDLE = "idle-forever"
    MAX_TICKS = "max-ticks"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    RESET_LOOP = "reset-loop"
    INTERRUPTED = "interrupted"

    @property
    def good(self) -> bool:
        """Whether the image did what it was asked for."""
        return self in (Outcome.POWER_OFF, Outcome.TEXT_SEEN)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is on the machine. Raises RealmkitError when it does not fit together.

    ``entry``: where the primary PE starts (default: entry of the first image). ``dtb``: contents of a devicetree and
    where it goes (None: a place above the images); X0 holds its address at entry. ``secure``: an image in Secure
    memory that runs at S-EL2.
    """

    images: tuple[PlacedImage, ...]
    entry: int | None = None
    cpus: int = 1
    nvm: NonVolatile | None = None
    dtb: bytes | None = None
    dtb_address: int | None = None
    secure: PlacedImage | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.images:
            raise RealmkitError("no image to boot")
        ram = fvp(pes=self.cpus).nonsecure_ram()
        parts = list(self.images)
        if self.nvm is not None:
            span = self.nvm.span
            parts.append(PlacedImage("the non-volatile memory", 0, (), span))
        if self.dtb is not None:
            where = self.dtb_place()
            parts.append(PlacedImage("the devicetree", 0, (), AddressRange(where, len(self.dtb))))
        check_placement(parts, ram, "Non-secure memory of the platform")
        if self.secure is not None:
            check_placement([self.secure], fvp(pes=self.cpus).secure, "Secure memory of the platform")
        entry = self.start_address
        if entry & 3 or not any(r.contains(entry, 4) for r in ram):
            raise RealmkitError(f"the entry point {entry:#x} is not an aligned address in Non-secure memory")

    @property
    def start_address(self) -> int:
        """Where the primary PE starts."""
        return self.images[0].entry if self.entry is None else self.entry

    def dtb_place(self) -> int:
        """Address of the devicetree."""
        if self.dtb_address is not None:
            return self.dtb_address
        top = max(image.occupies.end for image in self.images)
        if self.nvm is not None:
            top = max(top, self.nvm.span.end)
        return -(-top // DTB_ALIGNMENT) * DTB_ALIGNMENT


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop a run that does not end by itself. ``until``: text on any UART."""

    until: str = ""
    max_ticks: int | None = None
    timeout_seconds: float | None = None

    @property
    def ticks(self) -> int | None:
        """The earlier of both limits, in ticks."""
        timeout = None if self.timeout_seconds is None else int(self.timeout_seconds * TICKS_PER_SECOND)
        known = [ticks for ticks in (self.max_ticks, timeout) if ticks is not None]
        return min(known) if known else None


@dataclass(slots=True)
class Result:
    """What became of a run."""

    outcome: Outcome
    reason: str
    ticks: int
    resets: list[str]
    uarts: dict[int, str]
    missing: str = ""
    """The last access to an address where nothing answers."""
    unknown_call: str = ""
    """The last call of the Host that firmware does not have."""
    diagnosis: Diagnosis | None = None
    """State of the PEs, for endings that are not good."""


@dataclass(slots=True)
class _Text:
    """Waits for a text in what each UART prints."""

    wanted: str
    tails: dict[int, str] = field(default_factory=dict)

    def saw(self, uart: int, text: str) -> bool:
        """Whether the text is complete with this piece."""
        seen = self.tails.get(uart, "") + text
        self.tails[uart] = seen[-len(self.wanted) :]
        return self.wanted in seen


class BareMetal:
    """A configured machine. ``output(uart, bytes)`` gets what is printed, as it is printed."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        events: EventHub | None = None,
        output: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self.configuration = configuration
        self.events = EventHub() if events is None else events
        self._output = output
        self._text: _Text | None = None
        self._printed: dict[int, bytearray] = {}
        self._resets: list[str] = []
        self._futile = 0
        self._kept = b"" if configuration.nvm is None else configuration.nvm.power_on_contents()
        self._time = 0
        self.stack = self._power_on()

    @property
    def machine(self) -> Machine:
        """The machine since the last reset."""
        return self.stack.machine

    # ---- power-on and reset ----

    def _power_on(self) -> Stack:
        configuration = self.configuration
        stack = assemble(
            fvp(pes=configuration.cpus), seed=configuration.seed, events=self.events, output=self._print, boot=False
        )
        machine = stack.machine
        for pe in machine.pes:
            pe.cpu.time = self._time
        stack.boot()
        stack.on_power_up(lambda pe, entry, context_id: enter_el2(machine, pe, entry, context_id))
        memory = machine.memory
        for image in configuration.images:
            for address, data in image.segments:
                memory.write(address, data)
        x0 = 0
        if configuration.dtb is not None:
            x0 = configuration.dtb_place()
            memory.write(x0, configuration.dtb)
        if configuration.nvm is not None:
            memory.write(configuration.nvm.span.base, self._kept)
        enter_el2(machine, 0, configuration.start_address, x0)
        if configuration.secure is not None:
            for address, data in configuration.secure.segments:
                memory.write(address, data)
            machine.secure = reset_context(configuration.secure.entry)
            stack.monitor.start_secure_world(machine.pes[0].monitor_port)
        return stack

    def _reset(self) -> bool:
        """Reset the machine: False when that would go on for ever."""
        machine = self.machine
        self._resets.append(machine.reset_requested)
        self._time = max(pe.cpu.time for pe in machine.pes)
        nvm = self.configuration.nvm
        kept = b"" if nvm is None else nvm.read(machine.memory)
        self._futile = self._futile + 1 if kept == self._kept else 0
        self._kept = kept
        if self._futile >= FUTILE_RESETS:
            return False
        self.stack = self._power_on()
        return True

    def _print(self, uart: int, data: bytes) -> None:
        self._printed.setdefault(uart, bytearray()).extend(data)
        if self._output is not None:
            self._output(uart, data)
        if self._text is not None and self._text.saw(uart, data.decode("latin-1")):
            self.machine.stop("text")

    # ---- running ----

    def interrupt(self) -> None:
        """Stop the run as soon as the present slice is over (for signal handlers)."""
        self.machine.stop("interrupted")

    def run(self, limits: Limits | None = None) -> Result:
        """Run until the end. The non-volatile memory's file is written then, whatever the end is."""
        limits = Limits() if limits is None else limits
        self._text = _Text(limits.until) if limits.until else None
        outcome, reason = self._run(limits)
        machine = self.machine
        unknown = self.stack.monitor.last_unknown_call
        nvm = self.configuration.nvm
        if nvm is not None:
            nvm.save(nvm.read(machine.memory))
        return Result(
            outcome,
            reason,
            max(pe.cpu.time for pe in machine.pes),
            list(self._resets),
            {uart: bytes(data).decode("utf-8", "replace") for uart, data in sorted(self._printed.items())},
            "" if machine.last_missing is None else str(machine.last_missing),
            "" if unknown is None else f"{call_name(unknown[0])} on PE {unknown[1]}",
            None if outcome.good else diagnose(machine),
        )

    def _run(self, limits: Limits) -> tuple[Outcome, str]:
        while True:
            try:
                reason = self.machine.run(limits.ticks)
            except IdleForeverError as error:
                return Outcome.IDLE, str(error)
            match reason:
                case "reset":
                    if not self._reset():
                        return Outcome.RESET_LOOP, (
                            f"{len(self._resets)} resets, the last {FUTILE_RESETS} left non-volatile memory as it was"
                        )
                case "text":
                    return Outcome.TEXT_SEEN, f"{limits.until!r} was printed"
                case "max-ticks":
                    if limits.ticks == limits.max_ticks:
                        return Outcome.MAX_TICKS, f"the limit of {limits.max_ticks} ticks was reached"
                    return Outcome.TIMEOUT, f"{limits.timeout_seconds:g} s of virtual time have passed"
                case "interrupted":
                    return Outcome.INTERRUPTED, "stopped by the user"
                case _ if reason.startswith("PSCI"):
                    return Outcome.POWER_OFF, reason
                case _:
                    return Outcome.CRASHED, reason


def enter_el2(machine: Machine, index: int, entry: int, x0: int) -> None:
    """What a PE of the Host runs after power-on, X0 as given."""
    ctx = reset_context(entry)
    ctx.x[0] = x0
    pe = machine.pes[index]
    if pe.image is not None:
        machine.release(pe.image)
    pe.image = pe.current = ctx


def reset_context(entry: int) -> CpuContext:
    """Code at EL2h that begins: MMU off, interrupts masked."""
    ctx = CpuContext(pc=entry, pstate=PSTATE_RESET_EL2)
    ctx.write("SCTLR_EL2", SCTLR_EL2_RESET)
    ctx.write("SCTLR_EL1", SCTLR_EL1_RESET)
    ctx.write("HCR_EL2", HCR_EL2_RESET)
    return ctx
