"""``realmkit boot``: run bare-metal Host images at NS-EL2."""

import json
import re
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from realmkit.arch.errors import RealmkitError
from realmkit.arch.events import EventHub
from realmkit.baremetal import (
    BareMetal,
    Configuration,
    Limits,
    NonVolatile,
    PlacedImage,
    Result,
    parse_placement,
    place,
)
from realmkit.cli import options
from realmkit.cli.interrupt import interruptible
from realmkit.cli.observers import Counts, Trace
from realmkit.cli.options import Growing
from realmkit.cli.terminal import Screen
from realmkit.host.vmm.images import read_file
from realmkit.machine.board import UARTS
from realmkit.machine.platform import AddressRange

REPORT_SCHEMA: Final = 1
_NVM: Final = re.compile(r"([^:]+):([^=]+?)(?:=(.+))?", re.DOTALL)
_UNITS: Final = {"K": 10, "M": 20, "G": 30}


class UartConsole:
    """Shows what UARTs print as it comes: on the terminal each line with the name of its UART, or in files."""

    def __init__(self, out: Screen, routes: dict[int, Growing | None]) -> None:
        self._out = out
        self._routes = routes
        self._last = -1
        self._at_line_start = True

    def __call__(self, uart: int, data: bytes) -> None:
        """Output of a UART."""
        if uart in self._routes:
            sink = self._routes[uart]
            if sink is not None:
                sink.write(data)
                return
            self._out.write(_text(data))
        else:
            self._labelled(uart, _text(data))
        self._out.flush()

    def _labelled(self, uart: int, text: str) -> None:
        if uart != self._last and not self._at_line_start:
            self._out.write("\n")
            self._at_line_start = True
        self._last = uart
        for line in text.splitlines(keepends=True):
            if self._at_line_start:
                self._out.write(f"uart{uart}| ")
            self._out.write(line)
            self._at_line_start = line.endswith("\n")

    def finish(self) -> None:
        """Complete the last line."""
        if not self._at_line_start:
            self._out.write("\n")
            self._out.flush()
            self._at_line_start = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r", "")


class HostCounts(Counts):
    """Counts of a Host image: also its own PSCI calls."""

    def __init__(self) -> None:
        super().__init__()
        self.host_psci: Counter[str] = Counter()
        self._by_interface["host-psci"] = self.host_psci

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Counts by name, sorted."""
        return {**super().as_dict(), "host_psci": dict(sorted(self.host_psci.items()))}


def boot(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE[@ADDR]...",
            help="ELF (address optional), flat binary, or either in gzip form, loaded into Non-secure memory.",
            show_default=False,
        ),
    ],
    entry: Annotated[
        str | None,
        typer.Option(help="Where the primary PE starts. Default: entry of the first image.", metavar="ADDR"),
    ] = None,
    cpus: Annotated[int, typer.Option("--cpus", "-c", help="Number of PEs, 1 to 8.")] = 1,
    nvm: Annotated[
        str | None,
        typer.Option(
            help="Memory that survives a reset; with FILE also the end of the run.", metavar="ADDR:SIZE[=FILE]"
        ),
    ] = None,
    uart: Annotated[
        list[str] | None,
        typer.Option(help="Send the output of UART N to a file, or unlabelled to standard output.", metavar="N=FILE|-"),
    ] = None,
    dtb: Annotated[
        str | None,
        typer.Option(help="A devicetree blob; X0 holds its address at entry.", metavar="FILE[@ADDR]"),
    ] = None,
    until: Annotated[
        str, typer.Option(help="End successfully when a UART has printed this text.", metavar="TEXT")
    ] = "",
    max_ticks: Annotated[
        int | None, typer.Option(help="Stop at this virtual time, in ticks of 10 ns.", min=1, show_default=False)
    ] = None,
    timeout_virtual: Annotated[
        float | None,
        typer.Option(help="Stop after this many seconds of virtual time.", metavar="SECONDS", show_default=False),
    ] = None,
    secure: Annotated[
        str | None,
        typer.Option(help="An image for the Secure world, entered at boot and by FF-A.", metavar="IMAGE[@ADDR]"),
    ] = None,
    report: options.ReportFile = None,
    trace: options.TraceFile = None,
    seed: Annotated[int, typer.Option(help="Seed of the platform's keys.", min=0)] = 0,
) -> None:
    """Boot bare-metal Host images at NS-EL2 of the fvp platform, and run until power off, idle for ever, the
    text, or a limit.

    Exit code 0: the image powered off, or printed the text of --until. 1: it ended in any other way, and the
    reason is printed. 2: wrong usage.
    """
    for path, what in ((report, "the report"), (trace, "the trace")):
        options.check_writable(path, what)
    if timeout_virtual is not None and not 0 < timeout_virtual < 1e9:
        raise RealmkitError(f"--timeout-virtual {timeout_virtual} is not a positive number of seconds below 10^9")
    configuration = Configuration(
        images=tuple(_load(text) for text in images),
        entry=None if entry is None else options.number(entry),
        cpus=cpus,
        nvm=None if nvm is None else parse_nvm(nvm),
        **_devicetree(dtb),
        secure=None if secure is None else _load(secure),
        seed=seed,
    )
    limits = Limits(until, max_ticks, timeout_virtual)
    counts = HostCounts()
    events = EventHub()
    with ExitStack() as resources:
        files = _routes(uart or [])
        inputs = [(text, "an image") for text in images] + [(dtb, "the devicetree"), (secure, "the Secure image")]
        options.check_distinct(
            *((parse_placement(text)[0], what) for text, what in inputs if text is not None),
            *((path, f"the output of UART {number}") for number, path in files.items()),
            (None if configuration.nvm is None else configuration.nvm.file, "non-volatile memory"),
            (report, "the report"),
            (trace, "the trace"),
        )
        routes = {
            number: None
            if path is None
            else resources.enter_context(options.Growing(path, f"the output of UART {number} to"))
            for number, path in files.items()
        }
        growing = [out for out in routes.values() if out is not None]
        screen = Screen(sys.stdout)
        console = UartConsole(screen, routes)
        if report is not None:
            events.subscribe(counts, detailed=False, kinds=Counts.KINDS)
        if trace is not None:
            growing.append(resources.enter_context(options.Growing(trace, "the trace")))
            events.subscribe(Trace(growing[-1], {"images": images, "cpus": cpus}))
        machine = BareMetal(configuration, events=events, output=console)
        for out in (screen, *growing):
            out.on_failure = machine.interrupt
        with interruptible(machine.interrupt):
            result = machine.run(limits)
        console.finish()
    if report is not None:
        content = json.dumps(describe(result, counts), indent=2) + "\n"
        options.write_file(report, content.encode(), "the report")
    screen.check()
    for line in ending(result):
        print(line)
    raise typer.Exit(0 if result.outcome.good else 1)


def describe(result: Result, counts: HostCounts) -> dict[str, Any]:
    """The report in the form of its schema (docs/reference.md)."""
    return {
        "schema": REPORT_SCHEMA,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "ticks": result.ticks,
        "resets": result.resets,
        "uarts": {f"uart{uart}": text for uart, text in result.uarts.items()},
        "counts": counts.as_dict(),
        "missing_device": result.missing or None,
        "unknown_call": result.unknown_call or None,
        "pes": [] if result.diagnosis is None else result.diagnosis.as_dict(),
        "last_events": [] if result.diagnosis is None else list(result.diagnosis.history),
    }


def ending(result: Result) -> list[str]:
    """What is printed after the console: one line, and for an ending that is not good what helps to understand it."""
    lines = [f"realmkit: {result.outcome.value}: {result.reason} (tick {result.ticks})"]
    if result.resets:
        lines.append(f"resets: {', '.join(result.resets)}")
    if result.diagnosis is None:
        return lines
    if result.missing:
        lines.append(f"last access to a device that this platform does not have: {result.missing}")
    if result.unknown_call:
        lines.append(f"last call that this firmware does not have (answered with -1): {result.unknown_call}")
    lines.append("last events:")
    lines.extend(f"  {line}" for line in result.diagnosis.history)
    for pe in result.diagnosis.pes:
        lines.extend(pe.lines())
    return lines


# ---- options ----


def _load(text: str) -> PlacedImage:
    path, address = parse_placement(text)
    return place(read_file(path), str(path), address)


def _devicetree(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    path, address = parse_placement(text)
    content = read_file(path, "devicetree")
    if content[:4] != b"\xd0\x0d\xfe\xed":
        raise RealmkitError(f"{path} is not a devicetree blob: compile it with dtc")
    return {"dtb": content, "dtb_address": address}


def parse_nvm(text: str) -> NonVolatile:
    """``ADDR:SIZE[=FILE]``; SIZE may end in K, M or G."""
    match = _NVM.fullmatch(text)
    if match is None:
        raise RealmkitError(f"--nvm {text!r} is not ADDR:SIZE or ADDR:SIZE=FILE, such as 0x82800000:64K=state.bin")
    size = match[2].strip()
    shift = _UNITS.get(size[-1:].upper(), 0)
    return NonVolatile(
        AddressRange(options.number(match[1]), options.number(size[:-1] if shift else size) << shift),
        None if match[3] is None else Path(match[3]),
    )


def _routes(texts: list[str]) -> dict[int, Path | None]:
    """Where the output of some UARTs goes: a file, or None for standard output."""
    routes: dict[int, Path | None] = {}
    for text in texts:
        number, equals, target = text.partition("=")
        if not equals or not target or not number.isdecimal() or int(number) >= UARTS:
            raise RealmkitError(f"--uart {text!r} is not N=FILE or N=- with a UART from 0 to {UARTS - 1}")
        if int(number) in routes:
            raise RealmkitError(f"--uart {number} is given twice")
        path = routes[int(number)] = None if target == "-" else Path(target)
        options.check_writable(path, f"the output of UART {number}")
    return routes
