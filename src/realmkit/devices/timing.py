"""How devices take part in virtual time."""

from typing import Protocol


class Clock(Protocol):
    """Source of virtual time."""

    def now(self) -> int:
        """The present, in ticks (:data:`realmkit.arch.time.TICKS_PER_SECOND`)."""


class TimedDevice(Protocol):
    """A device that acts by itself when time has passed."""

    def next_event(self) -> int | None:
        """Tick at which the device has something to do next, None if nothing is due."""

    def update(self, now: int) -> None:
        """Do what is due at tick ``now`` or before. Calling it late, or more often than needed, changes nothing."""
