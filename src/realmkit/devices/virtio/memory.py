"""The guest's memory as a virtio device may use it."""

from typing import Protocol


class MemoryRefused(Exception):
    """A device was pointed at memory that the guest does not share with it; nothing was read or written."""

    def __init__(self, address: int, size: int, write: bool) -> None:
        self.address, self.size, self.write = address, size, write
        way = "write" if write else "read"
        super().__init__(f"{way} of {size} bytes at guest address {address:#x}, which the guest does not share")


class SharedMemory(Protocol):
    """What the guest shares, by the addresses that its drivers give to devices.

    Addresses are below 2**64, sizes at least 1, and ``address + size`` is at most 2**64. Both methods raise
    :class:`MemoryRefused`, and nothing else, where any byte of the range is not shared; a write may have reached the
    shared pages before that one.
    """

    def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes."""

    def write(self, address: int, data: bytes) -> None:
        """Write bytes."""
