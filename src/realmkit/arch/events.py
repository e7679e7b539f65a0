"""Typed events that the machine and its software emit to observers (architecture decision 8).

Emitters test ``hub.active`` before they build an event, so that a machine without observers pays nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Common part: virtual time in ticks and the index of the PE."""

    tick: int
    pe: int


@dataclass(frozen=True, slots=True)
class Call(Event):
    """A completed call of one software component to another.

    ``interface`` is rmi, rsi, psci (Realm to RMM), host-psci (Host to Monitor) or el3 (RMM to Monitor).
    ``arguments`` and ``results`` are decoded by name; ``status`` is the result in words; ``refused`` is the label of
    the failed condition (None when accepted); ``detail`` holds decoded structures in memory and digests.
    """

    interface: str
    name: str
    fid: int
    arguments: dict[str, int]
    x0: int
    status: str
    results: dict[str, int]
    refused: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorldSwitch(Event):
    """EL3 moved the PE between security states (names of SecurityState)."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class RecEntered(Event):
    """The RMM entered a REC."""

    rec: int


@dataclass(frozen=True, slots=True)
class RecExited(Event):
    """A REC exit was reported to the Host.

    ``exit`` holds the fields of RmiRecExit that are not zero, where an observer wants detail.
    """

    rec: int
    reason: str
    exit: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GranuleTransition(Event):
    """A granule changed its RMM state."""

    pa: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class GptChange(Event):
    """The Monitor changed the physical address space of a granule."""

    pa: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RttChange(Event):
    """An RTT entry changed; states are HIPAS/RIPAS in words."""

    rd: int
    ipa: int
    level: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Measured(Event):
    """A measurement (index 0 is the RIM) got a new value; ``descriptor`` is what was hashed."""

    rd: int
    index: int
    kind: str
    value: bytes
    descriptor: bytes


@dataclass(frozen=True, slots=True)
class ExceptionTaken(Event):
    """A PE took an exception to ``target_el`` (1, 2 or 3)."""

    world: str
    source_el: int
    target_el: int
    kind: str
    esr: int
    far: int
    pc: int


@dataclass(frozen=True, slots=True)
class TokenIssued(Event):
    """The last chunk of a CCA token was handed to a Realm."""

    rd: int
    rec: int
    size: int


Observer = Callable[[Event], None]


class EventHub:
    """Delivers events to observers in the order of subscription."""

    __slots__ = ("_detailed", "_observers", "active", "detailed")

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._detailed: list[Observer] = []
        self.active = False
        """Somebody observes: emitters build events."""
        self.detailed = False
        """Somebody wants everything: emitters build what is costly or frequent as well."""

    def subscribe(self, observer: Observer, *, detailed: bool = True) -> Callable[[], None]:
        """Add an observer; the returned function removes it.

        Without ``detailed`` it may miss what only traces tell: exit records come empty, and world switches, granule
        transitions and changes of table entries not at all.
        """
        self._observers.append(observer)
        if detailed:
            self._detailed.append(observer)
        self._update()

        def unsubscribe() -> None:
            self._observers.remove(observer)
            if detailed:
                self._detailed.remove(observer)
            self._update()

        return unsubscribe

    def _update(self) -> None:
        self.active = bool(self._observers)
        self.detailed = bool(self._detailed)

    def emit(self, event: Event) -> None:
        """Deliver one event."""
        for observer in self._observers:
            observer(event)
