"""Virtio devices behind the MMIO transport (OASIS Virtual I/O Device 1.2): console, block, entropy.

A device reaches the guest's memory only through the :class:`SharedMemory` that it is given. Whatever a guest writes
into registers, rings and buffers costs bounded work and at worst stops the queue that it concerns.
"""

from realmkit.devices.virtio.block import Block, BlockBackend
from realmkit.devices.virtio.console import Console, ConsolePort
from realmkit.devices.virtio.entropy import Entropy
from realmkit.devices.virtio.memory import MemoryRefused, SharedMemory
from realmkit.devices.virtio.model import VirtioModel
from realmkit.devices.virtio.queue import Chain, QueueError, Virtqueue
from realmkit.devices.virtio.transport import VirtioMmio

__all__ = [
    "Block",
    "BlockBackend",
    "Chain",
    "Console",
    "ConsolePort",
    "Entropy",
    "MemoryRefused",
    "QueueError",
    "SharedMemory",
    "VirtioMmio",
    "VirtioModel",
    "Virtqueue",
]
