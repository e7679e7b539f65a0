"""Generic watchdog of the Arm Base System Architecture (DEN0094, annex; spec: host-platform, devices).

It counts system counter ticks against a compare value. The first expiry raises WS0, an interrupt to the software that
should have refreshed it, and grants one more period; the second raises WS1, which resets the machine.
"""

from collections.abc import Callable

from realmkit.arch.fields import RegisterTable
from realmkit.devices.timing import Clock

WATCHDOG_FRAME_SIZE = 0x1_0000
WCS = RegisterTable("WCS", EN=(0, 0), WS0=(1, 1), WS1=(2, 2))
_WCS, _WOR_LOW, _WOR_HIGH, _WCV_LOW, _WCV_HIGH = 0x000, 0x008, 0x00C, 0x010, 0x014
_WRR = 0x000
_W_IIDR = 0xFCC
_IIDR = 0x0001_043B
"""Architecture revision 1 (48-bit offset), implementer Arm."""
_WOR_MASK = 0xFFFF_FFFF_FFFF
_WCV_MASK = 0xFFFF_FFFF_FFFF_FFFF
_WORD = 0xFFFF_FFFF


class SbsaWatchdog:
    """One watchdog with its two frames, :attr:`control` and :attr:`refresh`.

    ``interrupt(level)`` drives WS0; ``reset_request()`` is called when WS1 rises. ``clock`` gives the system counter.
    """

    __slots__ = (
        "_clock",
        "_compare",
        "_enabled",
        "_interrupt",
        "_offset",
        "_reset_request",
        "_ws0",
        "_ws1",
        "control",
        "refresh",
    )

    def __init__(self, clock: Clock, interrupt: Callable[[bool], None], reset_request: Callable[[], None]) -> None:
        self._clock = clock
        self._interrupt = interrupt
        self._reset_request = reset_request
        self._ws0 = False
        self.control = _ControlFrame(self)
        self.refresh = _RefreshFrame(self)
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset: disabled."""
        self._enabled = False
        self._offset = 0
        self._compare = 0
        self._ws1 = False
        self._set_ws0(False)

    def next_event(self) -> int | None:
        """Tick of the next expiry, None if there is none: the first tick past the compare value."""
        return self._compare + 1 if self._enabled and not self._ws1 else None

    def update(self, now: int) -> None:
        """Expire as far as tick ``now`` asks for. The second period starts where the first one ended."""
        while (due := self.next_event()) is not None and due <= now:
            if self._ws0:
                self._ws1 = True
                self._reset_request()
            else:
                self._compare = due + self._offset & _WCV_MASK
                self._set_ws0(True)

    def _set_ws0(self, level: bool) -> None:
        if level != self._ws0:
            self._ws0 = level
            self._interrupt(level)

    def explicit_refresh(self) -> None:
        """Start a new period from now, and take both signals back."""
        now = self._clock.now()
        self.update(now)
        self._compare = now + self._offset & _WCV_MASK
        self._ws1 = False
        self._set_ws0(False)

    def read_control(self, offset: int) -> int:
        """Word at ``offset`` of the control frame."""
        self.update(self._clock.now())
        registers = {
            _WCS: WCS.make(EN=int(self._enabled), WS0=int(self._ws0), WS1=int(self._ws1)),
            _WOR_LOW: self._offset & _WORD,
            _WOR_HIGH: self._offset >> 32,
            _WCV_LOW: self._compare & _WORD,
            _WCV_HIGH: self._compare >> 32,
            _W_IIDR: _IIDR,
        }
        return registers.get(offset, 0)

    def write_control(self, offset: int, value: int) -> None:
        """Write the word at ``offset`` of the control frame. WCS and WOR refresh the watchdog, WCV does not."""
        self.update(self._clock.now())
        value &= _WORD
        if offset == _WCS:
            self._enabled = bool(WCS.get(value, "EN"))
            self.explicit_refresh()
        elif offset == _WOR_LOW:
            self.write_offset(self._offset & ~_WORD | value)
        elif offset == _WOR_HIGH:
            self.write_offset(value << 32 | self._offset & _WORD)
        elif offset == _WCV_LOW:
            self.write_compare(self._compare & ~_WORD | value)
        elif offset == _WCV_HIGH:
            self.write_compare(value << 32 | self._compare & _WORD)

    def write_offset(self, value: int) -> None:
        """Write WOR, the length of a period in ticks."""
        self.update(self._clock.now())
        self._offset = value & _WOR_MASK
        self.explicit_refresh()

    def write_compare(self, value: int) -> None:
        """Write WCV, the last tick of the current period."""
        self.update(self._clock.now())
        self._compare = value & _WCV_MASK


class _ControlFrame:
    """WCS, WOR, WCV, W_IIDR. WOR and WCV also answer 64-bit accesses."""

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: SbsaWatchdog) -> None:
        self._watchdog = watchdog

    def read(self, offset: int, size: int) -> int:
        """Value of a register."""
        if size == 8 and offset in (_WOR_LOW, _WCV_LOW):
            return self._watchdog.read_control(offset) | self._watchdog.read_control(offset + 4) << 32
        return self._watchdog.read_control(offset) if size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        if size == 8 and offset == _WOR_LOW:
            self._watchdog.write_offset(value)
        elif size == 8 and offset == _WCV_LOW:
            self._watchdog.write_compare(value)
        elif size == 4:
            self._watchdog.write_control(offset, value)


class _RefreshFrame:
    """WRR: any write refreshes. W_IIDR."""

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: SbsaWatchdog) -> None:
        self._watchdog = watchdog

    def read(self, offset: int, size: int) -> int:
        """Value of a register: only W_IIDR is not zero."""
        return _IIDR if offset == _W_IIDR and size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        if offset == _WRR and size == 4:
            self._watchdog.explicit_refresh()
