"""Registers of emulated devices that a guest reads without exits, from a page that it cannot write.

Most reads of a UART ask whether it is busy, and most of its registers only say how things are: the Host shows them as
a page of memory, as it does with flash. Writes fault and are emulated as ever, and while a read has an effect, such as
taking a received character, so are reads.
"""

from collections.abc import Callable

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.devices import ReadableDevice
from realmkit.host.guest import DeviceWindow


class ShownRegisters:
    """What one guest is shown. ``show(address, page)`` and ``hide(address)`` map and unmap at guest addresses."""

    def __init__(self, show: Callable[[int, bytes], None], hide: Callable[[int], None]) -> None:
        self._show, self._hide = show, hide
        self._devices: dict[int, tuple[ReadableDevice, int]] = {}
        """Guest address to device, and the revision that the guest sees."""

    def accessed(self, window: DeviceWindow) -> None:
        """The guest uses this device: from its next entry on it sees the registers, if they are of that kind."""
        device = window.device
        if (
            window.base not in self._devices
            and isinstance(device, ReadableDevice)
            and window.size == GRANULE_SIZE
            and not window.base % GRANULE_SIZE
        ):
            self._devices[window.base] = device, device.revision - 1

    def refresh(self) -> None:
        """Before an entry: show what has changed."""
        for address, (device, seen) in self._devices.items():
            if device.revision != seen:
                page = device.registers()
                if page is None:
                    self._hide(address)
                else:
                    self._show(address, page)
                self._devices[address] = device, device.revision
