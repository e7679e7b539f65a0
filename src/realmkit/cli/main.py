"""The ``realmkit`` command. Exit codes: 0 done, 1 the thing under test failed, 2 wrong usage."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from realmkit import __version__
from realmkit.arch.errors import RealmkitError
from realmkit.cli import doctor as doctor_command
from realmkit.cli.boot import boot
from realmkit.cli.initrd import initrd
from realmkit.cli.run import run
from realmkit.cli.show import show

app = typer.Typer(
    name="realmkit",
    help="The Arm Confidential Compute Architecture software stack in one program.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run)
app.command("boot")(boot)
app.command("initrd")(initrd)
app.command("show")(show)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"realmkit {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of realmkit itself."""


@app.command()
def doctor() -> None:
    """Examine this machine: Python, the tested Unicorn version, optional tools, and what to install."""
    raise typer.Exit(doctor_command.run(Console()))


def main() -> None:
    """Entry point: errors of usage become one line on standard error and exit code 2."""
    try:
        app()
    except RealmkitError as error:
        print(f"realmkit: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # Files that are written while the machine runs; those read before have messages of their own.
        named = "" if error.filename is None else f": {error.filename}"
        print(f"realmkit: cannot write or open a file: {error.strerror}{named}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("realmkit: interrupted", file=sys.stderr)
        sys.exit(1)
