"""Where the time of running code goes: clocks around the engine and its hooks.

The clocks themselves cost about as much as a cheap hook: shares are meaningful, sums are more than an unwatched run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from realmkit.machine.core.engine import Engine
from realmkit.machine.core.native import Runner

_HOOKS = {
    "_on_fill": "TLB fills",
    "_on_interrupt": "exceptions and exits",
    "_on_instruction": "system registers",
    "_on_code": "WFE",
}


@dataclass(slots=True)
class Split:
    """Nanoseconds and calls by part. ``within`` is the time of all hooks, which the engine's own time includes."""

    spent: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    total: int = 0
    running: int = 0
    runs: int = 0
    within: int = 0

    def parts(self) -> list[tuple[str, float, str]]:
        """(part, seconds, note) of translated code, each kind of hook, and everything outside the engine."""
        hooks = [(name, self.spent[name] / 1e9, f"{self.calls[name]:,} calls") for name in sorted(self.spent)]
        return [
            ("engine", (self.running - self.within) / 1e9, f"{self.runs:,} runs"),
            *hooks,
            ("interpreter outside the engine", (self.total - self.running) / 1e9, "Host, RMM, Monitor, scheduler"),
        ]


@contextmanager
def watched() -> Iterator[Split]:
    """Split the time of what runs inside; for engines that are made inside."""
    split = Split()
    clock = time.process_time_ns
    originals: dict[str, Callable[..., Any]] = {name: getattr(Engine, name) for name in _HOOKS}
    start = Runner.start

    def watch(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        part = _HOOKS[name]
        split.spent[part] = split.calls[part] = 0

        def hooked(*arguments: Any) -> Any:
            began = clock()
            try:
                return hook(*arguments)
            finally:
                spent = clock() - began
                split.spent[part] += spent
                split.calls[part] += 1
                split.within += spent

        return hooked

    def run(runner: Runner, pc: int) -> bool:
        began = clock()
        try:
            return start(runner, pc)
        finally:
            split.running += clock() - began
            split.runs += 1

    for name, hook in originals.items():
        setattr(Engine, name, watch(name, hook))
    Runner.start = run  # type: ignore[method-assign, assignment]
    began = clock()
    try:
        yield split
    finally:
        split.total = clock() - began
        Runner.start = start  # type: ignore[method-assign]
        for name, hook in originals.items():
            setattr(Engine, name, hook)
