"""Block device (virtio 1.2 section 5.2): reads, writes, flushes, and an identifier.

Requests are complete when the queue is served. Errors of a request (sectors out of range, a write to a read-only disk,
an error of the backend) are statuses; only requests that have no place for a status stop the queue.
"""

import struct
from typing import Final, Protocol

from realmkit.devices.virtio.model import VirtioModel
from realmkit.devices.virtio.queue import Chain, QueueError, Virtqueue

SECTOR: Final = 512
FEATURE_SIZE_MAX: Final = 1 << 1
FEATURE_SEG_MAX: Final = 1 << 2
FEATURE_RO: Final = 1 << 5
FEATURE_FLUSH: Final = 1 << 9
TYPE_IN: Final = 0
TYPE_OUT: Final = 1
TYPE_FLUSH: Final = 4
TYPE_GET_ID: Final = 8
STATUS_OK: Final = 0
STATUS_IOERR: Final = 1
STATUS_UNSUPP: Final = 2
QUEUE_SIZE: Final = 32
SEG_MAX: Final = QUEUE_SIZE - 2
"""Data segments of a request at most: header and status take a descriptor each."""
SIZE_MAX: Final = 4 << 10
"""Bytes of a data segment at most. With the size of the queue it keeps what is under way below 128 KB: a Realm copies
that through shared bounce buffers, for which Linux reserves no more than a thousandth of its memory."""

_HEADER: Final = struct.Struct("<IIQ")
_CONFIG: Final = struct.Struct("<QII")
_ID_SIZE: Final = 20


class BlockBackend(Protocol):
    """What holds the sectors. ``read``, ``write`` and ``flush`` raise OSError when they fail."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``, all inside the disk."""

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes, all inside the disk."""

    def flush(self) -> None:
        """Make what was written durable."""


class Block(VirtioModel):
    """A disk over ``backend``; ``identifier`` is at most 20 ASCII characters that GET_ID answers.

    Writes are durable after a flush; a driver that has not negotiated flushes gets each write flushed.
    """

    device_id = 2
    queue_sizes = (QUEUE_SIZE,)

    def __init__(self, backend: BlockBackend, identifier: str) -> None:
        super().__init__()
        self._backend = backend
        self._identifier = identifier.encode("ascii", "replace")[:_ID_SIZE].ljust(_ID_SIZE, b"\0")
        self.features = FEATURE_SIZE_MAX | FEATURE_SEG_MAX | FEATURE_FLUSH | (FEATURE_RO if backend.read_only else 0)
        self.config = _CONFIG.pack(backend.size // SECTOR, SIZE_MAX, SEG_MAX)

    def process(self, index: int, queue: Virtqueue) -> None:
        """Serve requests in the order of the available ring."""
        while chain := queue.pop():
            room = chain.writable_size - 1
            if room < 0:
                raise QueueError(f"the request at descriptor {chain.head} has no place for its status")
            try:
                status, written = self._serve(chain, room)
            except OSError:
                status, written = STATUS_IOERR, 0
            chain.write(bytes((status,)), room)
            # Used lengths count from the start of the buffer: a status behind data that is not there does not count.
            queue.push(chain, room + 1 if written == room else written)

    def _serve(self, chain: Chain, room: int) -> tuple[int, int]:
        """Status, and bytes of data written; ``room`` is for data, before the status."""
        if any(size > SIZE_MAX for _, size in (*chain.readable, *chain.writable)):
            return STATUS_IOERR, 0
        request = chain.read(QUEUE_SIZE * SIZE_MAX)
        if len(request) < _HEADER.size:
            return STATUS_IOERR, 0
        kind, _, sector = _HEADER.unpack_from(request)
        data = request[_HEADER.size :]
        if kind == TYPE_IN:
            if not self._inside(sector, room):
                return STATUS_IOERR, 0
            chain.write(self._backend.read(sector * SECTOR, room))
            return STATUS_OK, room
        if kind == TYPE_OUT:
            if self._backend.read_only or not self._inside(sector, len(data)):
                return STATUS_IOERR, 0
            self._backend.write(sector * SECTOR, data)
            if not self.negotiated & FEATURE_FLUSH:
                self._backend.flush()
            return STATUS_OK, 0
        if kind == TYPE_FLUSH:
            self._backend.flush()
            return STATUS_OK, 0
        if kind == TYPE_GET_ID:
            identifier = self._identifier[:room]
            chain.write(identifier)
            return STATUS_OK, len(identifier)
        return STATUS_UNSUPP, 0

    def _inside(self, sector: int, size: int) -> bool:
        return size % SECTOR == 0 and sector * SECTOR + size <= self._backend.size
