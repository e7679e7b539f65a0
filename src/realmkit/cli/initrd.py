"""``realmkit initrd``: an initramfs for a Linux guest."""

import json
from pathlib import Path
from typing import Annotated

import typer

from realmkit.arch.errors import RealmkitError
from realmkit.cli import options
from realmkit.guest import Initramfs, build


def initrd(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="A directory that tools/fetch-guest made, or the root directory of an arm64 system.",
            metavar="DIR",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write the initramfs here.", metavar="FILE.cpio")],
    script: Annotated[
        Path | None,
        typer.Option(help="Program or shell script that /init runs.", metavar="FILE", show_default=False),
    ] = None,
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest",
            help="Run the user-space test that realmkit ships. It writes to a writable /dev/vda.",
        ),
    ] = False,
    module: Annotated[
        list[str] | None,
        typer.Option(help="Load this kernel module too. Repeatable.", metavar="NAME", show_default=False),
    ] = None,
    compress: Annotated[
        bool,
        typer.Option("--gzip", help="Compress: fewer pages to measure, more work for the guest."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write what is inside here, with digests.", metavar="FILE.json", show_default=False),
    ] = None,
) -> None:
    """Build an initramfs whose /init loads the modules a Realm guest needs, answers the attestation challenge,
    and runs a script or a shell.

    The same files give the same bytes. Every page of it is measured at launch, so only needed modules go in.
    """
    options.check_writable(output, "the initramfs")
    options.check_writable(report, "the report")
    if script is not None and selftest:
        raise RealmkitError("--script and --selftest exclude each other: both decide what /init runs")
    made = build(source, script=script, selftest=selftest, modules=module or (), compress=compress)
    options.write_file(output, made.content, "the initramfs")
    if report is not None:
        options.write_file(report, (json.dumps(made.report(), indent=2) + "\n").encode(), "the report")
    for line in summary(made, output):
        print(line)


def summary(made: Initramfs, output: Path) -> list[str]:
    """What was built, for people."""
    selection = made.selection
    modules = " ".join(module.name for module in selection.modules) or "none"
    if selection.builtin:
        modules += f" (built in: {' '.join(selection.builtin)})"
    lines = [
        f"{output}: {len(made.content)} bytes, {made.pages} pages to measure",
        f"kernel:   {made.release or 'any'}",
        f"modules:  {modules}",
    ]
    return lines + [f"note:     {note}" for note in made.notes]
