"""What a virtual machine monitor gives the hypervisor to run a guest: devices, interrupts, and answers to calls."""

from dataclasses import dataclass, field
from typing import Protocol

from realmkit.devices import MmioDevice
from realmkit.devices.gic import Gicv3


class HostCalls(Protocol):
    """Serves RSI_HOST_CALL."""

    def __call__(self, imm: int, gprs: tuple[int, ...]) -> tuple[int, ...]:
        """The registers that the Realm gets back."""


def refuse_host_call(imm: int, gprs: tuple[int, ...]) -> tuple[int, ...]:
    """A Host without services: registers come back as they were."""
    return gprs


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
    """Accesses to addresses without a device, in words."""

    def find(self, address: int, size: int) -> DeviceWindow | None:
        """The device that holds [address, address + size)."""
        for window in self.windows:
            if window.base <= address and address + size <= window.base + window.size:
                return window
        return None
