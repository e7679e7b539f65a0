"""SP805 watchdog (Arm DDI 0270; spec: host-platform, devices).

The counter runs down from LOAD at ``hz``. At zero it raises its interrupt and starts again; at zero with the interrupt
still raised it asks for a reset, if CONTROL.RESEN.
"""

from collections.abc import Callable

from realmkit.arch.time import TICKS_PER_SECOND
from realmkit.devices.primecell import ID_REGISTERS, primecell_id
from realmkit.devices.timing import Clock

SP805_SIZE = 0x1000
SP805_HZ = 32_768
"""WDOGCLK of the Base platform's watchdogs."""
_LOAD, _VALUE, _CONTROL, _INTCLR, _RIS, _MIS, _LOCK = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0xC00
_INTEN, _RESEN = 1, 2
_UNLOCK = 0x1ACC_E551
_WORD = 0xFFFF_FFFF


class Sp805:
    """One watchdog.

    ``hz`` is WDOGCLK: one count is TICKS_PER_SECOND / ``hz`` ticks, rounded down when the counter is read.
    ``interrupt(level)`` drives WDOGINT; ``reset_request()`` is called once when WDOGRES is asserted.
    """

    __slots__ = (
        "_clock",
        "_control",
        "_count",
        "_hz",
        "_interrupt",
        "_load",
        "_locked",
        "_raised",
        "_reset_request",
        "_reset_sent",
        "_since",
    )

    def __init__(
        self,
        clock: Clock,
        interrupt: Callable[[bool], None],
        reset_request: Callable[[], None],
        *,
        hz: int = SP805_HZ,
    ) -> None:
        self._clock = clock
        self._interrupt = interrupt
        self._reset_request = reset_request
        self._hz = hz
        self._control = 0
        self._raised = False
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset: stopped, unlocked."""
        lower = self._line()
        self._load = self._count = _WORD
        self._since = 0
        self._control = 0
        self._raised = False
        self._locked = False
        self._reset_sent = False
        if lower:
            self._interrupt(False)

    # ---- time ----

    def next_event(self) -> int | None:
        """Tick of the next zero that matters, None if there is none."""
        if not self._control & _INTEN or (self._raised and (self._reset_sent or not self._control & _RESEN)):
            return None
        return self._since + -(-self._count * TICKS_PER_SECOND // self._hz)

    def update(self, now: int) -> None:
        """Bring the counter to tick ``now``."""
        while (due := self.next_event()) is not None and due <= now:
            self._since = due
            self._count = max(self._load, 1)
            if self._raised:
                self._reset_sent = True
                self._reset_request()
            else:
                self._raised = True
                self._interrupt(True)

    def _value(self, now: int) -> int:
        if not self._control & _INTEN:
            return self._count
        # PEs that run in turns read the clock at times that are not in order.
        passed = max(now - self._since, 0) * self._hz // TICKS_PER_SECOND
        if passed < self._count:
            return self._count - passed
        # Zeros that have no effect have passed (see next_event): the counter has gone round.
        period = max(self._load, 1)
        return period - (passed - self._count) % period

    def _start(self, count: int, now: int) -> None:
        self._count = count
        self._since = now

    def _line(self) -> bool:
        return self._raised and bool(self._control & _INTEN)

    # ---- registers ----

    def read(self, offset: int, size: int) -> int:
        """Value of a register (32 bits)."""
        if size != 4:
            return 0
        now = self._clock.now()
        self.update(now)
        if offset in ID_REGISTERS:
            return primecell_id(offset, part=0x805, revision=1)
        registers = {
            _LOAD: self._load,
            _VALUE: self._value(now),
            _CONTROL: self._control,
            _RIS: int(self._raised),
            _MIS: int(self._line()),
            _LOCK: int(self._locked),
        }
        return registers.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register (32 bits). While locked, only LOCK answers."""
        if size != 4:
            return
        now = self._clock.now()
        self.update(now)
        if offset == _LOCK:
            self._locked = value & _WORD != _UNLOCK
        elif self._locked:
            return
        elif offset == _LOAD:
            self._load = value & _WORD
            self._start(self._load, now)
        elif offset == _CONTROL:
            self._write_control(value & (_INTEN | _RESEN), now)
        elif offset == _INTCLR:
            self._clear(now)
        self.update(now)

    def _write_control(self, value: int, now: int) -> None:
        started = value & _INTEN and not self._control & _INTEN
        before = self._line()
        self._start(self._load if started else self._value(now), now)
        self._control = value
        if self._line() != before:
            self._interrupt(not before)

    def _clear(self, now: int) -> None:
        lower = self._line()
        self._raised = False
        self._start(self._load, now)
        if lower:
            self._interrupt(False)
