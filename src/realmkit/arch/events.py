"""Typed events that the machine and its software emit to observers (architecture decision 8).

Emitters test ``hub.active`` before they build an event, so that a machine without observers pays nothing. Observers
share the events that they are given and change none; they are not frozen because that triples the cost of making one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Event:
    """Common part: virtual time in ticks and the index of the PE."""

    tick: int
    pe: int


@dataclass(slots=True)
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


@dataclass(slots=True)
class WorldSwitch(Event):
    """EL3 moved the PE between security states (names of SecurityState)."""

    source: str
    target: str


@dataclass(slots=True)
class RecEntered(Event):
    """The RMM entered a REC."""

    rec: int


@dataclass(slots=True)
class RecExited(Event):
    """A REC exit was reported to the Host.

    ``exit`` holds the fields of RmiRecExit that are not zero, where an observer wants detail.
    """

    rec: int
    reason: str
    exit: dict[str, Any]


@dataclass(slots=True)
class GranuleTransition(Event):
    """A granule changed its RMM state."""

    pa: int
    before: str
    after: str


@dataclass(slots=True)
class GptChange(Event):
    """The Monitor changed the physical address space of a granule."""

    pa: int
    before: str
    after: str


@dataclass(slots=True)
class RttChange(Event):
    """An RTT entry changed; states are HIPAS/RIPAS in words."""

    rd: int
    ipa: int
    level: int
    before: str
    after: str


@dataclass(slots=True)
class Measured(Event):
    """A measurement (index 0 is the RIM) got a new value; ``descriptor`` is what was hashed."""

    rd: int
    index: int
    kind: str
    value: bytes
    descriptor: bytes


@dataclass(slots=True)
class ExceptionTaken(Event):
    """A PE took an exception to ``target_el`` (1, 2 or 3)."""

    world: str
    source_el: int
    target_el: int
    kind: str
    esr: int
    far: int
    pc: int


@dataclass(slots=True)
class TokenIssued(Event):
    """The last chunk of a CCA token was handed to a Realm."""

    rd: int
    rec: int
    size: int


Observer = Callable[[Event], None]


class EventHub:
    """Delivers events to observers in the order of subscription."""

    __slots__ = ("_by_kind", "_everything", "_subscriptions", "active", "detailed")

    def __init__(self) -> None:
        self._subscriptions: list[tuple[Observer, bool, frozenset[type[Event]]]] = []
        self._by_kind: dict[type[Event], list[Observer]] = {}
        """Observers of the kinds of events that somebody has named."""
        self._everything: list[Observer] = []
        """Those of the others."""
        self.active = False
        """Somebody observes: emitters build events."""
        self.detailed = False
        """Somebody wants everything: emitters build what is costly or frequent as well."""

    def subscribe(
        self, observer: Observer, *, detailed: bool = True, kinds: Iterable[type[Event]] = ()
    ) -> Callable[[], None]:
        """Add an observer of some kinds of events, or of all; the returned function removes it.

        Without ``detailed`` it may miss what only traces tell: exit records, arguments and results of calls come empty,
        and calls of the RMM to EL3, world switches, REC entries, granule transitions and changes of table entries not
        at all.
        """
        subscription = observer, detailed, frozenset(kinds)
        self._subscriptions.append(subscription)
        self._update()

        def unsubscribe() -> None:
            self._subscriptions.remove(subscription)
            self._update()

        return unsubscribe

    def _update(self) -> None:
        subscriptions = self._subscriptions
        self.active = bool(subscriptions)
        self.detailed = any(detailed for _, detailed, _ in subscriptions)
        self._everything = [observer for observer, _, kinds in subscriptions if not kinds]
        self._by_kind = {
            kind: [observer for observer, _, kinds in subscriptions if not kinds or kind in kinds]
            for kind in frozenset[type[Event]]().union(*(kinds for _, _, kinds in subscriptions))
        }

    def emit(self, event: Event) -> None:
        """Deliver one event."""
        for observer in self._by_kind.get(type(event), self._everything):
            observer(event)
