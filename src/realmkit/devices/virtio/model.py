"""What a kind of virtio device is to the transport."""

from collections.abc import Callable

from realmkit.devices.virtio.queue import Virtqueue


def _not_attached(index: int) -> None:
    """No transport yet: nothing can be served."""


class VirtioModel:
    """Base of the device kinds.

    ``device_id`` and ``features`` (bits 0 to 23 only) are the specification's, ``queue_sizes`` has the largest size of
    each queue in descriptors, ``config`` is the device configuration space as the driver reads it.
    """

    device_id: int
    features: int = 0
    queue_sizes: tuple[int, ...]
    config: bytes = b""

    def __init__(self) -> None:
        self.negotiated = 0
        """Features that the driver accepted; set by the transport."""
        self.serve: Callable[[int], None] = _not_attached
        """``serve(queue)``: process a queue now, where the guest allows it; set by the transport."""

    def reset(self) -> None:
        """The driver reset the device."""

    def process(self, index: int, queue: Virtqueue) -> None:
        """Serve a batch of a queue. Raises QueueError and MemoryRefused, which stop the queue."""
        raise NotImplementedError
