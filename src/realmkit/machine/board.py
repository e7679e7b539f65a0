"""The devices of a platform, wired to the interrupt controller and the address map (spec: host-platform, devices)."""

from collections.abc import Callable
from typing import Protocol

from realmkit.devices import MmioDevice
from realmkit.devices.counter import GenericCounter
from realmkit.devices.ecam import EmptyEcam
from realmkit.devices.gic import CpuInterface, Gicv3
from realmkit.devices.pl011 import Pl011
from realmkit.devices.sbsa_watchdog import SbsaWatchdog
from realmkit.devices.sp805 import Sp805
from realmkit.devices.timing import Clock, TimedDevice
from realmkit.machine.bus import DeviceMap
from realmkit.machine.platform import Platform

UARTS = 4


class ResettableTimedDevice(TimedDevice, Protocol):
    """A device that acts by itself, and can be put back to its power-on state."""

    def reset(self) -> None:
        """Back to the state after reset."""


class _Watched:
    """A device that acts by itself, as software reaches it: what software does may change when it acts next."""

    def __init__(self, device: MmioDevice, accessed: Callable[[], None]) -> None:
        self._device = device
        self._accessed = accessed

    def read(self, offset: int, size: int) -> int:
        self._accessed()
        return self._device.read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._accessed()
        self._device.write(offset, size, value)


class Board:
    """GIC, UARTs, watchdogs, counter and ECAM of a machine.

    ``output(uart, bytes)`` gets what software prints; ``request_reset(cause)`` is called by watchdogs.
    """

    def __init__(
        self,
        platform: Platform,
        devices: DeviceMap,
        clock: Clock,
        output: Callable[[int, bytes], None],
        request_reset: Callable[[str], None],
    ) -> None:
        secure = platform.device("trusted-watchdog").intids
        self.gic = Gicv3(platform.mpidrs, two_security_states=True, secure_intids=secure)
        self.interfaces = tuple(CpuInterface(self.gic, pe) for pe in range(len(platform.mpidrs)))
        self.uarts = tuple(self._uart(platform, n, output) for n in range(UARTS))
        self.watchdog = Sp805(clock, self._line(platform, "watchdog"), lambda: request_reset("watchdog"))
        self.trusted_watchdog = Sp805(
            clock, self._line(platform, "trusted-watchdog"), lambda: request_reset("trusted-watchdog")
        )
        self.sbsa_watchdog = SbsaWatchdog(
            clock, self._line(platform, "sbsa-watchdog-control"), lambda: request_reset("sbsa-watchdog")
        )
        self.timed: tuple[ResettableTimedDevice, ...] = (self.watchdog, self.trusted_watchdog, self.sbsa_watchdog)
        self._next: int | None = None
        self._next_is_known = False
        timed: dict[str, MmioDevice] = {
            "watchdog": self.watchdog,
            "trusted-watchdog": self.trusted_watchdog,
            "sbsa-watchdog-control": self.sbsa_watchdog.control,
            "sbsa-watchdog-refresh": self.sbsa_watchdog.refresh,
        }
        models: dict[str, MmioDevice] = {
            **{f"uart{n}": uart for n, uart in enumerate(self.uarts)},
            **{name: _Watched(device, self._forget_next) for name, device in timed.items()},
            "counter": GenericCounter(clock),
            "gicd": self.gic.distributor,
            "gicr": self.gic.redistributors,
            "ecam": EmptyEcam(),
        }
        for place in platform.devices:
            devices.map(place.base, place.size, place.pas, models[place.name])

    def _line(self, platform: Platform, name: str) -> Callable[[bool], None]:
        intid = platform.device(name).intids[0]
        return lambda level: self.gic.set_spi(intid, level)

    def _uart(self, platform: Platform, number: int, output: Callable[[int, bytes], None]) -> Pl011:
        return Pl011(lambda data: output(number, data), self._line(platform, f"uart{number}"))

    def next_event(self) -> int | None:
        """Tick of the next action of any device."""
        if not self._next_is_known:
            events = [event for device in self.timed if (event := device.next_event()) is not None]
            self._next, self._next_is_known = min(events, default=None), True
        return self._next

    def _forget_next(self) -> None:
        self._next_is_known = False

    def update(self, now: int) -> None:
        """Let devices do what is due."""
        self._forget_next()
        for device in self.timed:
            device.update(now)

    def reset(self) -> None:
        """Power-on state of every device."""
        self._forget_next()
        self.gic.reset()
        for interface in self.interfaces:
            interface.reset()
        for uart in self.uarts:
            uart.reset()
        for device in self.timed:
            device.reset()
