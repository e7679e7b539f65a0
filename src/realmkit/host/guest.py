"""What a virtual machine monitor gives the hypervisor to run a guest: devices, interrupts, and answers to calls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from realmkit.devices import MmioDevice
from realmkit.devices.gic import Gicv3
from realmkit.machine.port import Bus

REMARKS: Final = 100
"""Remarks about a guest that are kept: one that misbehaves all the time does not fill the Host's memory."""


class HostCalls(Protocol):
    """Serves RSI_HOST_CALL."""

    def __call__(self, imm: int, gprs: tuple[int, ...]) -> tuple[int, ...]:
        """The registers that the Realm gets back."""


def refuse_host_call(imm: int, gprs: tuple[int, ...]) -> tuple[int, ...]:
    """A Host without services: registers come back as they were."""
    return gprs


def no_input(now: int) -> None:
    """A guest that nobody types to."""


PageLookup = Callable[[int], int | None]
"""From the guest address of a page, as drivers give it to devices, to the Non-secure page behind it, if any."""


def no_dma(bus: Bus, page_at: PageLookup) -> None:
    """A guest without devices that read and write its memory."""


@dataclass(frozen=True, slots=True)
class DeviceWindow:
    """An emulated device at a guest physical address; Realms reach it through the Unprotected alias."""

    name: str
    base: int
    size: int
    device: MmioDevice


@dataclass(slots=True)
class GuestDevices:
    """Emulated hardware of one guest."""

    gic: Gicv3
    windows: list[DeviceWindow] = field(default_factory=list)
    host_calls: HostCalls = refuse_host_call
    unknown: list[str] = field(default_factory=list)
    """The first accesses to addresses without a device, in words."""
    connect: Callable[[Bus, PageLookup], None] = no_dma
    """Called once when the guest is there: what devices that read and write memory themselves may use of it.

    Of a Realm that is only what it shares.
    """
    poll: Callable[[int], None] = no_input
    """Called with the tick before each entry: input from outside reaches the devices here and nowhere else."""

    def find(self, address: int, size: int) -> DeviceWindow | None:
        """The device that holds [address, address + size)."""
        for window in self.windows:
            if window.base <= address and address + size <= window.base + window.size:
                return window
        return None

    def remark(self, text: str) -> None:
        """Remember an access to nothing."""
        if len(self.unknown) < REMARKS:
            self.unknown.append(text)
