"""``realmkit show``: a trace in words, one line an event, filtered."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from realmkit.arch.errors import RealmkitError
from realmkit.cli.observers import TRACE_SCHEMA

Record = dict[str, Any]
_INTERFACES: Final = {"rmi": "RMI_", "rsi": "RSI_", "psci": "PSCI_", "host-psci": "PSCI_", "el3": ""}


def _call(e: Record) -> str:
    arguments = ", ".join(f"{name}={value:#x}" for name, value in e["arguments"].items())
    results = "".join(f" {name}={value:#x}" for name, value in e["results"].items())
    refused = f" (condition {e['refused']})" if e["refused"] else ""
    return f"{_INTERFACES.get(e['interface'], '')}{e['name']}({arguments}) -> {e['status']}{refused}{results}"


def _exit(e: Record) -> str:
    fields = ", ".join(f"{k}={v:#x}" if isinstance(v, int) else f"{k}=..." for k, v in e["exit"].items())
    return f"REC {e['rec']:#x} exits: {e['reason']} {fields}".rstrip()


_WORDS: Final[dict[str, tuple[str, Callable[[Record], str]]]] = {
    "WorldSwitch": ("world", lambda e: f"{e['source']} -> {e['target']}"),
    "RecEntered": ("rec", lambda e: f"REC {e['rec']:#x} entered"),
    "RecExited": ("rec", _exit),
    "GranuleTransition": ("granule", lambda e: f"granule {e['pa']:#x}: {e['before']} -> {e['after']}"),
    "GptChange": ("gpt", lambda e: f"GPT of {e['pa']:#x}: {e['before']} -> {e['after']}"),
    "RttChange": ("rtt", lambda e: f"RTT level {e['level']} at IPA {e['ipa']:#x}: {e['before']} -> {e['after']}"),
    "Measured": ("measure", lambda e: f"{_measurement(e['index'])} extended by {e['kind']}: {e['value'][:64]}"),
    "ExceptionTaken": (
        "exception",
        lambda e: (
            f"{e['world']} EL{e['source_el']} -> EL{e['target_el']} {e['kind']} at {e['pc']:#x} "
            f"ESR={e['esr']:#x} FAR={e['far']:#x}"
        ),
    ),
    "TokenIssued": ("token", lambda e: f"token of {e['size']} bytes complete"),
}
_CATEGORIES: Final = (*_INTERFACES, *dict.fromkeys(category for category, _ in _WORDS.values()))


def _measurement(index: int) -> str:
    return "RIM" if index == 0 else f"REM{index - 1}"


def describe(event: Record) -> tuple[str, str]:
    """(category, line) of an event of a trace."""
    if event["event"] == "Call":
        category, text = event["interface"], _call(event)
    else:
        category, words = _WORDS[event["event"]]
        text = words(event)
    return category, f"{event['tick']:>10} pe{event['pe']} {category:<9} {text}"


def read(path: Path) -> Iterator[Record]:
    """Events of a trace file; raises RealmkitError where it is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            header = json.loads(next(lines, "null"))
            if not isinstance(header, dict) or header.get("schema") != TRACE_SCHEMA:
                raise RealmkitError(f"{path} is not a trace of schema {TRACE_SCHEMA}: make one with --trace")
            yield from (json.loads(line) for line in lines)
    except OSError as error:
        raise RealmkitError(f"cannot read the trace {path}: {error.strerror}") from error
    except ValueError as error:
        raise RealmkitError(f"{path} is not a trace: {error}") from error


def show(
    trace: Annotated[Path, typer.Argument(help="A file that --trace has written.", metavar="FILE.jsonl")],
    only: Annotated[str, typer.Option(help=f"Categories, with commas: {', '.join(_CATEGORIES)}.")] = "",
    name: Annotated[str, typer.Option(help="Only lines that contain this text.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only calls that were refused.")] = False,
    head: Annotated[int | None, typer.Option(help="Only the first lines.", min=1, show_default=False)] = None,
) -> None:
    """Print a trace in words: calls with their arguments, results and failed conditions, transitions, exits."""
    wanted = frozenset(filter(None, only.split(",")))
    if unknown := wanted - set(_CATEGORIES):
        raise RealmkitError(f"--only {min(unknown)!r} is unknown: choose from {', '.join(_CATEGORIES)}")
    for line in islice(_select(trace, wanted, name, refused), head):
        print(line)


def _select(trace: Path, wanted: frozenset[str], name: str, refused: bool) -> Iterator[str]:
    for event in read(trace):
        try:
            category, line = describe(event)
            keep = (not wanted or category in wanted) and (not refused or bool(event.get("refused")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RealmkitError(f"{trace} holds an event that no realmkit wrote: {error!r}") from error
        if keep and name in line:
            yield line
