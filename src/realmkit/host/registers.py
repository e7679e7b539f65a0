"""Registers of emulated devices that a guest reads without exits, from a page that it cannot write.

Most reads of a UART ask whether it is busy, and most of its registers only say how things are: the Host shows them as
a page of memory, as it does with flash. Writes fault and are emulated as ever, and while a read has an effect, such as
taking a received character, so are reads.
"""

from collections.abc import Callable

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.devices import ReadableDevice
from realmkit.host.guest import DeviceWindow
from realmkit.host.memory import OutOfMemoryError


class ShownRegisters:
    """What one guest is shown. ``show(address, page)`` and ``hide(address)`` map and unmap at guest addresses."""

    def __init__(self, show: Callable[[int, bytes], None], hide: Callable[[int], None]) -> None:
        self._show, self._hide = show, hide
        self._devices: dict[int, tuple[ReadableDevice, int]] = {}
        """Guest address to device, and the revision that the guest sees."""
        self._given_up: set[int] = set()
        """Devices for which the Host had no memory: they are emulated as ever."""

    def accessed(self, window: DeviceWindow) -> None:
        """The guest uses this device: from its next entry on it sees the registers, if they are of that kind."""
        device = window.device
        if (
            window.base not in self._devices
            and window.base not in self._given_up
            and isinstance(device, ReadableDevice)
            and window.size == GRANULE_SIZE
            and not window.base % GRANULE_SIZE
        ):
            self._devices[window.base] = device, device.revision - 1

    def refresh(self) -> None:
        """Before an entry: show what has changed."""
        for address, (device, seen) in tuple(self._devices.items()):
            if device.revision == seen:
                continue
            page = device.registers()
            self._devices[address] = device, device.revision
            if page is None:
                self._hide(address)
                continue
            try:
                self._show(address, page)
            except OutOfMemoryError:
                self._hide(address)
                del self._devices[address]
                self._given_up.add(address)
