"""``realmkit run``: launch a Realm, from measured boot to its destruction."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from realmkit.arch.errors import RealmkitError
from realmkit.arch.rmi import HashAlgorithm
from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.cli import options
from realmkit.cli.guest import CONSOLES, Disk, Request
from realmkit.cli.interrupt import interruptible
from realmkit.cli.launch import Launch, default_challenge, execute, make_hypervisor, prepare
from realmkit.cli.observers import Trace
from realmkit.cli.terminal import Keys, Screen, StandardInput
from realmkit.cli.view import LaunchView
from realmkit.host.hypervisor import Hypervisor
from realmkit.host.vmm.images import read_file
from realmkit.host.vmm.launch import PARTS
from realmkit.host.vmm.layout import VmConfig
from realmkit.realm import embedded_payload

WIDTH = 160
"""Columns where the output is no terminal: no line of the summary breaks."""
_HASHES = {"sha256": HashAlgorithm.SHA_256, "sha512": HashAlgorithm.SHA_512}


def run(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE",
            help="Guest image: ELF, flat binary or Linux Image, raw or gzip. Without it the embedded payload runs.",
            show_default=False,
        ),
    ] = None,
    kernel: Annotated[
        Path | None,
        typer.Option(
            "--kernel",
            "-k",
            help="Linux kernel, Image or gzip, to boot as the Realm.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    initrd: Annotated[
        Path | None,
        typer.Option("--initrd", "-i", help="Initramfs for the kernel.", metavar="FILE", show_default=False),
    ] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            "--disk",
            "-d",
            help="Raw file as a virtio disk; FILE,ro is read-only. Repeatable.",
            metavar="FILE[,ro]",
            show_default=False,
        ),
    ] = None,
    params: Annotated[
        str, typer.Option("--params", "-p", help="Kernel parameters, after realmkit's own.", metavar="STR")
    ] = "",
    console: Annotated[
        str, typer.Option(help="The kernel's console: serial (PL011) or virtio.", metavar="serial|virtio")
    ] = "serial",
    measure: Annotated[
        str,
        typer.Option(help="What of a kernel launch enters the RIM, with commas.", metavar="PARTS"),
    ] = ",".join(PARTS),
    no_realm: Annotated[bool, typer.Option("--no-realm", help="Launch as a plain VM, to compare.")] = False,
    mem: Annotated[
        str | None,
        typer.Option(
            "--mem",
            "-m",
            help="Guest memory: 64M, 2G; a bare number counts MiB. Default: 64M, with --kernel 256M.",
            show_default=False,
        ),
    ] = None,
    cpus: Annotated[int, typer.Option("--cpus", "-c", help="Number of VCPUs.")] = 1,
    measurement_algo: Annotated[
        str, typer.Option(help="Hash algorithm of RIM and REMs: sha256 or sha512.", metavar="sha256|sha512")
    ] = "sha256",
    realm_pv: Annotated[
        str, typer.Option(help="Realm personalization value: up to 64 bytes of text.", metavar="STR")
    ] = "",
    challenge: Annotated[
        str | None,
        typer.Option(
            help="The owner's nonce, 32 to 64 bytes. Default: derived from the seed; with --kernel no attestation.",
            metavar="HEX",
            show_default=False,
        ),
    ] = None,
    token_out: Annotated[
        Path | None, typer.Option(help="Write the attestation token here.", metavar="FILE.cbor", show_default=False)
    ] = None,
    trust_anchor_out: Annotated[
        Path | None,
        typer.Option(help="Write the public platform attestation key here.", metavar="FILE.pem", show_default=False),
    ] = None,
    report: options.ReportFile = None,
    trace: options.TraceFile = None,
    max_ticks: Annotated[
        int | None,
        typer.Option(help="Stop the Realm at this virtual time, in ticks of 10 ns.", min=1, show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the platform's keys and of the default challenge.", min=0)] = 0,
    platform_key: Annotated[
        Path | None,
        typer.Option(
            help="Platform attestation key (P-384 private key) in place of the seed's.",
            metavar="FILE.pem",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Launch a Realm end to end: measured boot, delegation, creation, activation, execution,
    attestation verified by the Realm's owner, destruction.

    Exit code 0: the Realm ran to its end, its token verified, and every granule is back in the Non-secure world,
    scrubbed. 1: something of that failed, and the reason is printed. 2: wrong usage.
    """
    results = (
        (token_out, "the token"),
        (trust_anchor_out, "the trust anchor"),
        (report, "the report"),
        (trace, "the trace"),
    )
    for path, what in results:
        options.check_writable(path, what)
    disks = tuple(map(Disk.parse, disk or ()))
    inputs = ((image, "the image"), (kernel, "the kernel"), (initrd, "the initrd"), (platform_key, "the platform key"))
    options.check_distinct(*inputs, *((one.path, "a disk") for one in disks), *results)
    if measurement_algo not in _HASHES:
        raise RealmkitError(f"--measurement-algo {measurement_algo!r} is unknown: use {' or '.join(_HASHES)}")
    if console not in CONSOLES:
        raise RealmkitError(f"--console {console!r} is unknown: use {' or '.join(CONSOLES)}")
    if image is not None and kernel is not None:
        raise RealmkitError("IMAGE and --kernel are both given: use --kernel for Linux, IMAGE for everything else")
    if kernel is None and (initrd or disk or params or console != "serial"):
        raise RealmkitError("--initrd, --disk, --params and --console are for Linux: give its Image with --kernel")
    if no_realm and challenge is not None:
        raise RealmkitError("--no-realm makes a plain VM, which cannot answer a --challenge: leave one of them out")
    path = kernel if image is None else image
    memory = options.size(mem or ("64M" if kernel is None else "256M"))
    request = Request(
        image=embedded_payload() if path is None else read_file(path),
        name="the embedded payload" if path is None else str(path),
        config=VmConfig(memory, cpus, _HASHES[measurement_algo], options.personalization(realm_pv)),
        challenge=default_challenge(seed) if challenge is None else options.challenge(challenge),
        max_ticks=max_ticks,
        seed=seed,
        platform_key=platform_key,
        kernel=kernel is not None,
        initrd=b"" if initrd is None else read_file(initrd, "initrd"),
        disks=disks,
        params=params,
        console=console,
        unmeasured=_unmeasured(measure),
        attest=kernel is None or challenge is not None,
        realm=not no_realm,
    )
    screen = Screen(sys.stdout)
    view = LaunchView(Console(file=screen, width=None if sys.stdout.isatty() else WIDTH), screen)  # type: ignore[arg-type]
    try:
        launch = prepare(request, view)
        with _tracing(launch, trace) as out:
            hypervisor = make_hypervisor(launch)
            screen.on_failure = hypervisor.stop
            if out is not None:
                out.on_failure = hypervisor.stop
            with interruptible(hypervisor.stop, launch.ask_to_power_off), _console(launch, hypervisor):
                execute(launch, hypervisor, view)
    finally:
        view.stop()
    if trust_anchor_out is not None:
        options.write_file(trust_anchor_out, launch.stack.trust_anchor_pem(), "the trust anchor")
    if token_out is not None and launch.guest is not None and launch.guest.token:
        options.write_file(token_out, launch.guest.token, "the token")
    if report is not None:
        options.write_file(report, (json.dumps(launch.report(), indent=2) + "\n").encode(), "the report")
    view.summary(launch)
    screen.check()
    raise typer.Exit(0 if launch.outcome[0] == "ok" else 1)


def _unmeasured(measure: str) -> frozenset[str]:
    wanted = frozenset(filter(None, measure.split(",")))
    if unknown := wanted - set(PARTS):
        raise RealmkitError(f"--measure {min(unknown)!r} is unknown: the parts are {', '.join(PARTS)}")
    return frozenset(PARTS) - wanted


@contextmanager
def _tracing(launch: Launch, path: Path | None) -> Iterator[options.Growing | None]:
    if path is None:
        yield None
        return
    config = launch.request.config
    with options.Growing(path, "the trace") as out:
        stop = launch.stack.events.subscribe(
            Trace(out, {"memory": config.memory, "vcpus": config.vcpus, "hash_algo": config.hash_algo.name})
        )
        try:
            yield out
        finally:
            stop()


@contextmanager
def _console(launch: Launch, hypervisor: Hypervisor) -> Iterator[None]:
    """Standard input is the console of a Linux guest. While somebody may type, an idle guest waits in real time."""
    if not launch.request.kernel:
        yield
        return

    def idle(until: int | None) -> bool:
        if not source.interactive:
            line = source.next_line() if launch.guest is not None and launch.guest.listening else b""
            launch.console.type(line)
            return bool(line)
        ahead = None if until is None else max(until - hypervisor.port.now(), 0) / TICKS_PER_SECOND
        return source.wait(ahead, lambda: hypervisor.stop_requested)

    keys = Keys(launch.console.type, lambda: signal.raise_signal(signal.SIGINT), hypervisor.stop)
    with StandardInput(keys) as source:
        hypervisor.on_idle = idle
        yield
