"""What a launch puts into a guest: image, devicetree parameters, devices, and the way by which its token comes out."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from realmkit.arch.challenge import AnswerReader, encode_challenge, encode_nothing, encode_poweroff
from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import LaunchPlan, RealmConfiguration
from realmkit.devices.pl011 import Pl011
from realmkit.host.guest import GuestDevices
from realmkit.host.hypervisor import Hypervisor, RunningGuest, RunningRealm
from realmkit.host.vmm import images
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.hostcall import HostCallServices
from realmkit.host.vmm.launch import earlycon, plan
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.host.vmm.machine import build_devices
from realmkit.host.vmm.virtio import ATTESTATION_PORT, CONSOLE_PORT, DiskFile, VirtioDevices

CONSOLES: Final = {"serial": "ttyAMA0", "virtio": "hvc0"}
BOUNCE_BUFFERS: Final = 4 << 20
"""Bytes of bounce buffers for kernels with pages of 16 and 64 KB."""
_BOUNCE_SLOT: Final = 2048
"""Linux counts bounce buffers in these."""
_MEMORY_PER_BOUNCE: Final = 1024
"""Linux makes bounce buffers of this part of its memory."""
_RSI_LINE: Final = "RSI version"
_PANIC: Final = "Kernel panic - "
_MAX_PANIC: Final = 200
"""Characters of a panic's message that are passed on."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A raw file as a virtio block device."""

    path: Path
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> "Disk":
        """``FILE`` or ``FILE,ro``, as kvmtool has it."""
        name, comma, mode = text.rpartition(",")
        if comma and mode in ("ro", "rw"):
            return cls(Path(name), mode == "ro")
        return cls(Path(text))


@dataclass(frozen=True, slots=True)
class Request:
    """What to launch. ``image`` is the content of a guest image that is called ``name`` in messages.

    ``kernel``: the image is a Linux kernel; it gets virtio devices, ``params`` after the default ones, and hands its
    token out through the attestation port, if ``attest`` is set. Other images use RSI_HOST_CALL, and must.
    ``realm`` False makes a plain VM.
    """

    image: bytes
    name: str
    config: VmConfig
    challenge: bytes
    max_ticks: int | None = None
    seed: int = 0
    platform_key: Path | None = None
    kernel: bool = False
    initrd: bytes = b""
    disks: tuple[Disk, ...] = ()
    params: str = ""
    console: str = "serial"
    unmeasured: frozenset[str] = frozenset()
    attest: bool = True
    realm: bool = True

    @property
    def seed_bytes(self) -> bytes:
        """The seed for devices."""
        return f"realmkit devices {self.seed}".encode()


class Guest(Protocol):
    """A guest that is ready to be created, and what it handed out."""

    plan: LaunchPlan
    devices: GuestDevices

    def started(self, hypervisor: Hypervisor, running: RunningGuest) -> None:
        """The guest exists."""

    def ask_to_power_off(self) -> bool:
        """Ask it to end, from any thread; whether it has a way to hear that."""

    @property
    def listening(self) -> bool:
        """Whether what is typed now will be read."""

    @property
    def token(self) -> bytes:
        """The token that it handed out, or nothing."""

    @property
    def failure(self) -> str:
        """What it says went wrong, or nothing."""

    @property
    def crash(self) -> str:
        """What it says why it cannot go on, or nothing."""

    def facts(self) -> dict[str, object]:
        """What the report says of it."""


class PayloadGuest:
    """A bare-metal program that speaks RSI_HOST_CALL (:mod:`realmkit.host.vmm.hostcall`)."""

    def __init__(self, request: Request, realm: RealmConfiguration, console: Console) -> None:
        config = request.config
        image = images.load(request.image, request.name, RAM_BASE, config.ram_top)
        self.plan = plan(config, realm, image)
        self.devices = build_devices(config, console)
        self._challenge = request.challenge
        self._services: HostCallServices | None = None

    def started(self, hypervisor: Hypervisor, running: RunningGuest) -> None:
        """Serve host calls."""
        bus = hypervisor.port.bus
        shared = running.realm.shared if isinstance(running, RunningRealm) else {}

        def read(ipa: int, size: int) -> bytes | None:
            pa = shared.get(ipa)
            return None if pa is None else bus.read(Pas.NS, pa, size)

        self._services = self.devices.host_calls = HostCallServices(self._challenge, read)

    def ask_to_power_off(self) -> bool:
        """Bare metal does not listen."""
        return False

    @property
    def listening(self) -> bool:
        """Bare metal gets no input."""
        return False

    @property
    def token(self) -> bytes:
        """What came by host call."""
        return b"" if self._services is None else self._services.token

    @property
    def failure(self) -> str:
        """The first step that it reported as failed."""
        failed = () if self._services is None else self._services.failed
        return f"the Realm reports that step {failed[0]} failed" if failed else ""

    @property
    def crash(self) -> str:
        """Bare metal does not say."""
        return ""

    def facts(self) -> dict[str, object]:
        """Nothing that the rest of the report does not say."""
        return {}


class LinuxGuest:
    """A Linux kernel with virtio devices and an attestation port (:mod:`realmkit.arch.challenge`)."""

    def __init__(self, request: Request, realm: RealmConfiguration, console: Console, closing: ExitStack) -> None:
        config = request.config
        disks = [closing.enter_context(DiskFile(d.path, read_only=d.read_only)) for d in request.disks]
        self._virtio = VirtioDevices(console.write, self._from_port, disks, seed=request.seed_bytes)
        self._console = console
        self._power_off = False
        self._on_virtio = request.console == "virtio"
        self._answers = AnswerReader()
        self._token = b""
        self._error = ""
        self._provider = ""
        self._log: tuple[str, ...] = ()
        image = images.load(request.image, request.name, RAM_BASE, config.ram_top)
        if image.kind != "linux":
            raise RealmkitError(f"{request.name} is no Linux Image but a {image.kind} file: launch it without --kernel")
        bootargs = earlycon(_defaults(request, image.page_size) + request.params, realm if request.realm else None)
        self.plan = plan(
            config,
            realm,
            image,
            bootargs,
            initrd=request.initrd,
            virtio=self._virtio.regions,
            unmeasured=request.unmeasured,
        )
        self.devices = build_devices(config, console)
        self._virtio.attach(self.devices, access_platform=request.realm)
        self.devices.poll = self._poll
        if self._on_virtio:
            console.attach(self._to_virtio_console)
        first = encode_challenge(request.challenge) if request.attest else encode_nothing()
        self._virtio.console.feed(ATTESTATION_PORT, first)

    def _from_port(self, data: bytes) -> None:
        try:
            answers = self._answers.feed(data)
        except RealmkitError as error:
            self._error = str(error)
            return
        for answer in answers:
            self._token, self._error = answer.token, answer.error
            self._provider, self._log = answer.provider, answer.log

    def started(self, hypervisor: Hypervisor, running: RunningGuest) -> None:
        """All that Linux needs is there."""

    def _to_virtio_console(self, data: bytes) -> None:
        self._virtio.console.feed(CONSOLE_PORT, data)

    @property
    def listening(self) -> bool:
        """The console's driver has it open."""
        if self._on_virtio:
            return self._virtio.console.ports[CONSOLE_PORT].opened
        uart = self.devices.windows[0].device
        return isinstance(uart, Pl011) and uart.listening

    def _poll(self, now: int) -> None:
        """The one place where the outside reaches the guest."""
        if self._power_off:
            self._power_off = False
            self._virtio.console.feed(ATTESTATION_PORT, encode_poweroff())
        self._console.poll(now)

    def ask_to_power_off(self) -> bool:
        """Our init hears this on the attestation port."""
        self._power_off = True
        return True

    @property
    def token(self) -> bytes:
        """What came through the port."""
        return self._token

    @property
    def failure(self) -> str:
        """Why there is no token."""
        return f"the guest gave no token: {self._error}" if self._error else ""

    @property
    def crash(self) -> str:
        """The message of the kernel's last panic."""
        _, found, message = self._console.text.rpartition(_PANIC)
        return f"{found}{message.splitlines()[0][:_MAX_PANIC].rstrip()}" if found and message else ""

    def facts(self) -> dict[str, object]:
        """Which kernel interface made the report, what the kernel logged of RSI, what devices refused."""
        rsi = next((line for line in self._log if _RSI_LINE in line), None)
        if rsi is None:
            rsi = next((line for line in self._console.text.splitlines() if _RSI_LINE in line), None)
        return {
            "report_provider": self._provider or None,
            "rsi_log": None if rsi is None else rsi.strip(),
            "devices_refused": list(self._virtio.reports),
            "unknown_accesses": list(self.devices.unknown),
        }


def _defaults(request: Request, page_size: int) -> str:
    """Kernel parameters that are realmkit's own, each with a space behind it, where the request has none of them.

    A kernel that panics would spin for ever: it is told to restart, which ends the run. A Realm's devices reach only
    its bounce buffers (swiotlb). Of small memory Linux makes them so small that the console's buffers, a dozen pages
    of the kernel's own size, take all of it where pages are larger than 4 KB.
    """
    words = request.params.split()
    defaults = [("console=", CONSOLES[request.console]), ("panic=", "-1")]
    if request.realm and page_size > GRANULE_SIZE and request.config.memory // _MEMORY_PER_BOUNCE < BOUNCE_BUFFERS:
        defaults.append(("swiotlb=", str(BOUNCE_BUFFERS // _BOUNCE_SLOT)))
    return "".join(f"{name}{value} " for name, value in defaults if not any(word.startswith(name) for word in words))


def build(request: Request, realm: RealmConfiguration, console: Console, closing: ExitStack) -> Guest:
    """The guest of a request; files that it keeps open are closed with ``closing``."""
    if request.kernel:
        return LinuxGuest(request, realm, console, closing)
    return PayloadGuest(request, realm, console)
