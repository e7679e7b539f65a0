"""``realmkit run``: launch a Realm, from measured boot to its destruction."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from realmkit.arch.errors import RealmkitError
from realmkit.arch.rmi import HashAlgorithm
from realmkit.cli import options
from realmkit.cli.launch import Launch, Request, default_challenge, execute, make_hypervisor, prepare
from realmkit.cli.observers import Trace
from realmkit.cli.view import LaunchView
from realmkit.host.hypervisor import Hypervisor
from realmkit.host.vmm.images import read_file
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
    mem: Annotated[str, typer.Option("--mem", "-m", help="Guest memory: 64M, 2G; a bare number counts MiB.")] = "64M",
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
            help="The owner's nonce, 32 to 64 bytes. Default: derived from the seed.", metavar="HEX", show_default=False
        ),
    ] = None,
    token_out: Annotated[
        Path | None, typer.Option(help="Write the attestation token here.", metavar="FILE.cbor", show_default=False)
    ] = None,
    trust_anchor_out: Annotated[
        Path | None,
        typer.Option(help="Write the public platform attestation key here.", metavar="FILE.pem", show_default=False),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report here.", metavar="FILE.json", show_default=False)
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write every event here, one JSON object a line.", metavar="FILE.jsonl", show_default=False),
    ] = None,
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
    for path, what in (
        (token_out, "the token"),
        (trust_anchor_out, "the trust anchor"),
        (report, "the report"),
        (trace, "the trace"),
    ):
        options.check_writable(path, what)
    if measurement_algo not in _HASHES:
        raise RealmkitError(f"--measurement-algo {measurement_algo!r} is unknown: use {' or '.join(_HASHES)}")
    request = Request(
        image=embedded_payload() if image is None else read_file(image),
        name="the embedded payload" if image is None else str(image),
        config=VmConfig(options.size(mem), cpus, _HASHES[measurement_algo], options.personalization(realm_pv)),
        challenge=default_challenge(seed) if challenge is None else options.challenge(challenge),
        max_ticks=max_ticks,
        seed=seed,
        platform_key=platform_key,
    )
    view = LaunchView(Console(width=None if sys.stdout.isatty() else WIDTH))
    try:
        launch = prepare(request, view)
        with _tracing(launch, trace), _interruptible(hypervisor := make_hypervisor(launch)):
            execute(launch, hypervisor, view)
    finally:
        view.stop()
    if trust_anchor_out is not None:
        options.write_file(trust_anchor_out, launch.stack.trust_anchor_pem(), "the trust anchor")
    if token_out is not None and launch.services is not None and launch.services.token:
        options.write_file(token_out, launch.services.token, "the token")
    if report is not None:
        options.write_file(report, (json.dumps(launch.report(), indent=2) + "\n").encode(), "the report")
    view.summary(launch)
    raise typer.Exit(0 if launch.outcome[0] == "ok" else 1)


@contextmanager
def _tracing(launch: Launch, path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        out: TextIO = path.open("w", encoding="utf-8")
    except OSError as error:
        raise RealmkitError(f"cannot write the trace {path}: {error.strerror}") from error
    config = launch.request.config
    with out:
        stop = launch.stack.events.subscribe(
            Trace(out, {"memory": config.memory, "vcpus": config.vcpus, "hash_algo": config.hash_algo.name})
        )
        try:
            yield
        finally:
            stop()


@contextmanager
def _interruptible(hypervisor: Hypervisor) -> Iterator[None]:
    """Ctrl-C ends the run after the present exit, and teardown follows; the second one is Python's own."""

    def stop(signum: int, frame: Any) -> None:
        hypervisor.stop_requested = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
