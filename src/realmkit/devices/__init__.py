"""Device models as pure state machines: the machine's physical devices and the Host's emulated ones share them."""

from typing import Protocol, runtime_checkable


class MmioDevice(Protocol):
    """A device behind memory-mapped registers.

    ``read`` and ``write`` take a byte offset and an access size of 1, 2, 4 or 8 bytes; they never raise for
    values that software chose: unknown registers read as zero and ignore writes.
    """

    def read(self, offset: int, size: int) -> int:
        """Value of a register."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""


@runtime_checkable
class ReadableDevice(MmioDevice, Protocol):
    """A device with a page of registers that mostly read as memory does: without an effect on the device."""

    revision: int
    """Changes whenever a register may read as something else."""

    def registers(self) -> bytes | None:
        """4096 bytes, all registers as they read; None while reading one has an effect."""
