"""Entropy device (virtio 1.2 section 5.4): a seeded generator, so that runs can be repeated.

What it gives is the Host's choice and known to the Host, as with every virtio entropy device: no secret of a Realm may
rest on it alone.
"""

import hashlib
from typing import Final

from realmkit.devices.virtio.model import VirtioModel
from realmkit.devices.virtio.queue import QueueError, Virtqueue

MAX_REQUEST: Final = 4096
"""Bytes for one request at most; the rest of a longer buffer stays as it is."""
_QUEUE_SIZE: Final = 64


class Entropy(VirtioModel):
    """Bytes from SHA-512 in counter mode under ``seed``. A reset of the device does not repeat them."""

    device_id = 4
    queue_sizes = (_QUEUE_SIZE,)

    def __init__(self, seed: bytes) -> None:
        super().__init__()
        self._key = hashlib.sha512(b"realmkit virtio entropy " + seed).digest()
        self._counter = 0

    def process(self, index: int, queue: Virtqueue) -> None:
        """Fill buffers."""
        while chain := queue.pop():
            if chain.readable:
                raise QueueError("a buffer for entropy has a part for the device to read")
            data = self._generate(min(chain.writable_size, MAX_REQUEST))
            chain.write(data)
            queue.push(chain, len(data))

    def _generate(self, size: int) -> bytes:
        blocks = []
        for _ in range(-(-size // 64)):
            blocks.append(hashlib.sha512(self._key + self._counter.to_bytes(8, "little")).digest())
            self._counter += 1
        return b"".join(blocks)[:size]
