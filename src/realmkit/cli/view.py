"""What a person sees of a launch: phases, the Realm's console, a summary. Wall-clock values only on a terminal."""

import sys
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from rich.text import Text

from realmkit.cli.launch import Launch

_PHASES: Final = {
    "boot": "booting the machine: Monitor (measured boot), RMM",
    "create": "creating the Realm: delegate, populate, measure, activate",
    "run": "running the Realm",
    "destroy": "destroying the Realm: reclaim, scrub, undelegate",
    "create-vm": "creating a plain VM, without protection",
    "run-vm": "running the plain VM",
    "destroy-vm": "taking the VM's memory back",
    "verify": "verifying the attestation token as the Realm's owner",
}
_MARKS: Final = {True: "[green]ok[/]", False: "[red]FAILED[/]"}


class LaunchView:
    """Shows a launch on a console; it is a :class:`realmkit.cli.launch.Watcher`."""

    def __init__(self, console: Console, out: Any = None) -> None:
        self._console = console
        self._out = sys.stdout if out is None else out
        self._status: Status | None = None
        self._at_line_start = True

    def phase(self, name: str) -> None:
        """Announce a phase; the spinner stops while the Realm owns the screen."""
        self.stop()
        text = _PHASES[name]
        if not self._at_line_start:
            self._write("\n")
        if self._console.is_terminal and name not in ("run", "run-vm"):
            self._status = self._console.status(text)
            self._status.start()
        self._console.print(f"[bold cyan]==[/] {text}", highlight=False)

    def console(self, data: bytes) -> None:
        """Pass the Realm's output on, as it comes."""
        self._write(data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", ""))

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text)
            self._out.flush()
            self._at_line_start = text.endswith("\n")

    def stop(self) -> None:
        """End the spinner, if there is one."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def summary(self, launch: Launch) -> None:
        """The table at the end."""
        self.stop()
        if not self._at_line_start:
            self._write("\n")
        report = launch.report()
        rows = _rows(report, launch.times if self._console.is_terminal else None)
        if not self._console.is_terminal:
            for name, text in rows:
                self._write(f"{name:<14}{Text.from_markup(text).plain}\n")
            return
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table, highlight=False)


def _rows(report: dict[str, Any], times: dict[str, float] | None) -> Iterator[tuple[str, str]]:
    """Name and text of each row; wall-clock times only where they are given."""
    realm, attestation, teardown = report["realm"], report["attestation"], report["teardown"]
    yield "RIM", realm["rim"]
    for index, value in enumerate(realm["rem"]):
        if value.strip("0"):
            yield f"REM{index}", value
    yield "IPA width", f"{realm['ipa_width']} bits, {realm['vcpus']} VCPU, {realm['hash_algo']}"
    yield "token", _token_row(attestation)
    for check in attestation["checks"]:
        yield "", f"{_MARKS[check['ok']]} {check['name']}: {escape(check['status'])}"
    if report["guest"].get("rsi_log"):
        yield "kernel", escape(report["guest"]["rsi_log"])
    yield "REC exits", _counts_row(report["counts"]["rec_exits"])
    yield "RSI calls", _counts_row(report["counts"]["rsi"])
    yield "RMI calls", f"{sum(report['counts']['rmi'].values())}"
    yield "virtual time", f"{report['counts']['ticks']} ticks of 10 ns"
    yield (
        "teardown",
        f"{teardown['granules_not_ns']} granules not Non-secure, {teardown['granules_not_scrubbed']} not scrubbed",
    )
    if times is not None:
        yield "wall time", ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in times.items())
    colour = "green" if report["outcome"] == "ok" else "red"
    yield "outcome", f"[{colour}]{report['outcome']}[/]: {escape(report['reason'])}"


def _token_row(attestation: dict[str, Any]) -> str:
    if not attestation["token_bytes"]:
        return "none"
    return f"{attestation['token_bytes']} bytes, {'verified' if attestation['verified'] else '[red]NOT verified[/]'}"


def _counts_row(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
