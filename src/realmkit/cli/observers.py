"""Observers of the machine's events: the trace file and the counts of the report."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any, ClassVar

from realmkit import __version__
from realmkit.arch.esr import Ec, exception_class
from realmkit.arch.events import Call, Event, ExceptionTaken, RecExited
from realmkit.cli.options import Growing

TRACE_SCHEMA = 1


def _plain(value: Any) -> Any:
    """A JSON value: bytes become hex, enumerations their name; integers stay numbers, whatever their size."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


class Trace:
    """Writes one JSON object per event; the first line holds the schema version."""

    def __init__(self, out: Growing, header: dict[str, Any]) -> None:
        self._out = out
        self._line({"schema": TRACE_SCHEMA, "realmkit": __version__, **header})

    def _line(self, record: dict[str, Any]) -> None:
        self._out.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        record: dict[str, Any] = {"event": type(event).__name__}
        for field in fields(event):
            record[field.name] = _plain(getattr(event, field.name))
        self._line(record)


class Counts:
    """Counts calls by interface and name, and REC exits by reason."""

    KINDS: ClassVar[tuple[type[Event], ...]] = (Call, RecExited)
    """The events that it counts."""

    def __init__(self) -> None:
        self.rmi: Counter[str] = Counter()
        self.rsi: Counter[str] = Counter()
        self.psci: Counter[str] = Counter()
        self.rec_exits: Counter[str] = Counter()
        self._by_interface = {"rmi": self.rmi, "rsi": self.rsi, "psci": self.psci}

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        if isinstance(event, Call):
            counter = self._by_interface.get(event.interface)
            if counter is not None:
                counter[event.name] += 1
        elif isinstance(event, RecExited):
            self.rec_exits[event.reason] += 1

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Counts by name, sorted."""
        return {
            name: dict(sorted(counter.items()))
            for name, counter in (
                ("rmi", self.rmi),
                ("rsi", self.rsi),
                ("psci", self.psci),
                ("rec_exits", self.rec_exits),
            )
        }


LOOP_LENGTH = 20_000
"""Exceptions in a row from the same place before code counts as crashed."""
_CRASHES = frozenset(
    {Ec.UNKNOWN, Ec.ILLEGAL_STATE, Ec.IABT_LOWER, Ec.IABT_SAME, Ec.PC_ALIGN, Ec.DABT_SAME, Ec.SP_ALIGN}
)
"""Not the classes that polling makes: traps of WFI, accesses to emulated devices, calls."""


class ExceptionLoop:
    """Notices code that only takes the same exception again and again, such as a fault in its own vectors."""

    def __init__(self) -> None:
        self.description = ""
        self.on_loop: Callable[[], None] | None = None
        self._last: tuple[int, int, int, int] | None = None
        self._length = 0

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        if not isinstance(event, ExceptionTaken) or event.kind != "sync":
            return
        if exception_class(event.esr) not in _CRASHES:
            self._last = None
            return
        key = (event.pe, event.pc, event.esr, event.far)
        if key != self._last:
            self._last, self._length = key, 0
            return
        self._length += 1
        if self._length == LOOP_LENGTH:
            self.description = (
                f"exception loop: the instruction at {event.pc:#x} takes the same exception for ever "
                f"(ESR {event.esr:#x}, FAR {event.far:#x})"
            )
            if self.on_loop is not None:
                self.on_loop()
