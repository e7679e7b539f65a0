"""The command: selects benchmarks, runs them, prints a table, writes JSON."""

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from unicorn import __version__ as unicorn_version

from benchmarks import (
    guest_loops,
    host_image,
    idle_start,
    linux_boot,
    populate,
    rmi_calls,
    tlb_fills,
    token,
)
from benchmarks.measure import Benchmark, Measurement, Settings, Unavailable, Verdict
from realmkit import __version__

SCHEMA = 1
_WIDTH = 120
"""Of the table where there is no terminal."""
BENCHMARKS: Mapping[str, Benchmark] = {
    "rmi-calls": rmi_calls.run,
    "populate": populate.run,
    "guest-loops": guest_loops.run,
    "tlb-fills": tlb_fills.run,
    "idle-start": idle_start.run,
    "host-image": host_image.run,
    "token": token.run,
    "linux-boot": linux_boot.run,
}
_STYLES = {
    Verdict.INFORMATION: "dim",
    Verdict.GOAL: "green",
    Verdict.REQUIRED: "yellow",
    Verdict.MISSED_GOAL: "yellow",
    Verdict.FAILED: "bold red",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One benchmark that has been run: its numbers, or why there are none, and how long it took by the clock."""

    name: str
    measurements: tuple[Measurement, ...]
    elapsed: float
    skipped: str = ""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the speed of realmkit.")
    result.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks to run (all): {', '.join(BENCHMARKS)}")
    result.add_argument(
        "--json", type=Path, default=Path("benchmarks.json"), metavar="FILE", help="where to write JSON"
    )
    result.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    result.add_argument("--guest", type=Path, metavar="DIR", help="folder with a Linux guest: kernel and initramfs")
    return result


def select(names: Iterable[str]) -> list[str]:
    """The benchmarks to run, in the order of the list; raises ValueError for a name that is none."""
    wanted = list(names)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"no benchmark is called {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if not wanted or name in wanted]


def run_one(name: str, settings: Settings) -> Outcome:
    """Run one benchmark."""
    start = time.perf_counter()
    try:
        measurements = tuple(BENCHMARKS[name](settings))
    except Unavailable as reason:
        return Outcome(name, (), time.perf_counter() - start, str(reason))
    return Outcome(name, measurements, time.perf_counter() - start)


def report(outcomes: Iterable[Outcome], settings: Settings) -> dict[str, Any]:
    """Everything as JSON."""
    return {
        "schema": SCHEMA,
        "realmkit": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "unicorn": unicorn_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "quick": settings.quick,
        "rounds": settings.rounds,
        "clock": "CPU time of the process; medians after a warm-up; what is compared is measured in turns",
        "gc": {
            "enabled": gc.isenabled(),
            "thresholds": gc.get_threshold(),
            "note": "a full collection before each sample, automatic ones within",
        },
        "benchmarks": [
            {
                "name": outcome.name,
                "elapsed_s": round(outcome.elapsed, 3),
                "skipped": outcome.skipped or None,
                "measurements": [
                    {
                        "name": m.name,
                        "value": m.value,
                        "unit": m.unit,
                        "better": "higher" if m.higher else "lower",
                        "goal": m.goal,
                        "required": m.required,
                        "verdict": m.verdict.name.lower(),
                        "note": m.note,
                    }
                    for m in outcome.measurements
                ],
            }
            for outcome in outcomes
        ],
    }


def number(value: float) -> str:
    """Three or four digits that matter, with thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _bounds(m: Measurement) -> str:
    relation = ">=" if m.higher else "<="
    named = (("required", m.required), ("goal", m.goal))
    return ", ".join(f"{name} {relation} {number(bound)}" for name, bound in named if bound is not None)


def table(outcomes: Iterable[Outcome]) -> Table:
    """Everything for a person."""
    result = Table(title="realmkit benchmarks", title_justify="left")
    result.add_column("benchmark")
    result.add_column("measured")
    result.add_column("value", justify="right")
    result.add_column("unit")
    result.add_column("bounds")
    result.add_column("verdict")
    for outcome in outcomes:
        if outcome.skipped:
            result.add_row(outcome.name, f"[dim]not run: {outcome.skipped}[/dim]", "", "", "", "")
        for n, m in enumerate(outcome.measurements):
            label = m.name + (f" [dim]({m.note})[/dim]" if m.note else "")
            verdict = f"[{_STYLES[m.verdict]}]{m.verdict.value}[/]"
            result.add_row("" if n else outcome.name, label, number(m.value), m.unit, _bounds(m), verdict)
        result.add_section()
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run: 0 if everything that is required holds, 1 if not, 2 for a wrong command line."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        names = select(options.names)
    except ValueError as error:
        command.error(str(error))
    settings = Settings(quick=options.quick, guest=options.guest)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    outcomes = []
    for name in names:
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr)
        outcomes.append(run_one(name, settings))
    options.json.write_text(json.dumps(report(outcomes, settings), indent=1) + "\n")
    console.print(table(outcomes))
    console.print(f"written to {options.json}")
    failed = any(m.verdict is Verdict.FAILED for outcome in outcomes for m in outcome.measurements)
    return 1 if failed else 0
