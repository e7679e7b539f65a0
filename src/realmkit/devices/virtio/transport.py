"""The MMIO transport (virtio 1.2 section 4.2): registers, feature negotiation, interrupts.

Work is done inside the register access that asks for it: a write of QueueNotify returns when the queue is served.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from realmkit.devices.virtio.memory import MemoryRefused, SharedMemory
from realmkit.devices.virtio.model import VirtioModel
from realmkit.devices.virtio.queue import QueueError, Virtqueue

VIRTIO_MMIO_SIZE: Final = 0x200
"""Bytes of registers and configuration space."""
VERSION_1: Final = 1 << 32
ACCESS_PLATFORM: Final = 1 << 33
ACKNOWLEDGE: Final = 0x01
DRIVER: Final = 0x02
DRIVER_OK: Final = 0x04
FEATURES_OK: Final = 0x08
DEVICE_NEEDS_RESET: Final = 0x40
FAILED: Final = 0x80
INTERRUPT_USED: Final = 1
INTERRUPT_CONFIG: Final = 2

_MAGIC: Final = int.from_bytes(b"virt", "little")
_VERSION: Final = 2
_VENDOR: Final = int.from_bytes(b"RLMK", "little")
_WORD: Final = 0xFFFF_FFFF
_NO_SHARED_REGION: Final = frozenset({0xB0, 0xB4, 0xB8, 0xBC})
"""SHMLen and SHMBase, which read as all ones: there are no shared memory regions."""
_MODEL_FEATURES: Final = (1 << 24) - 1


class Register(IntEnum):
    """Offsets of the registers, by the specification's names."""

    MAGIC_VALUE = 0x00
    VERSION = 0x04
    DEVICE_ID = 0x08
    VENDOR_ID = 0x0C
    DEVICE_FEATURES = 0x10
    DEVICE_FEATURES_SEL = 0x14
    DRIVER_FEATURES = 0x20
    DRIVER_FEATURES_SEL = 0x24
    QUEUE_SEL = 0x30
    QUEUE_NUM_MAX = 0x34
    QUEUE_NUM = 0x38
    QUEUE_READY = 0x44
    QUEUE_NOTIFY = 0x50
    INTERRUPT_STATUS = 0x60
    INTERRUPT_ACK = 0x64
    STATUS = 0x70
    QUEUE_DESC_LOW = 0x80
    QUEUE_DESC_HIGH = 0x84
    QUEUE_DRIVER_LOW = 0x90
    QUEUE_DRIVER_HIGH = 0x94
    QUEUE_DEVICE_LOW = 0xA0
    QUEUE_DEVICE_HIGH = 0xA4
    CONFIG_GENERATION = 0xFC
    CONFIG = 0x100


_AREAS: Final = {
    Register.QUEUE_DESC_LOW: ("desc", 0),
    Register.QUEUE_DESC_HIGH: ("desc", 32),
    Register.QUEUE_DRIVER_LOW: ("driver", 0),
    Register.QUEUE_DRIVER_HIGH: ("driver", 32),
    Register.QUEUE_DEVICE_LOW: ("device", 0),
    Register.QUEUE_DEVICE_HIGH: ("device", 32),
}


class VirtioMmio:
    """One device behind its registers: an :class:`~realmkit.devices.MmioDevice`.

    ``interrupt(level)`` drives the interrupt line and is called when it changes. ``report(text)`` is told what made a
    queue stop or its setup be refused: the text names the device, the queue and, for memory, the address. With
    ``access_platform``, VIRTIO_F_ACCESS_PLATFORM is offered, and a driver that does not accept it gets no FEATURES_OK:
    it would hand out addresses that the device cannot reach.
    """

    def __init__(
        self,
        name: str,
        model: VirtioModel,
        memory: SharedMemory,
        interrupt: Callable[[bool], None],
        report: Callable[[str], None],
        *,
        access_platform: bool,
    ) -> None:
        self.name = name
        self._model = model
        self._interrupt = interrupt
        self._report = report
        self._required = VERSION_1 | (ACCESS_PLATFORM if access_platform else 0)
        self._offered = model.features & _MODEL_FEATURES | self._required
        self.queues = tuple(Virtqueue(memory, maximum) for maximum in model.queue_sizes)
        self._line = False
        model.serve = self.serve
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset, as a write of 0 to Status has it."""
        self.status = 0
        self.pending = 0
        """InterruptStatus."""
        self._device_features_sel = 0
        self._driver_features_sel = 0
        self._accepted = 0
        self._queue_sel = 0
        for queue in self.queues:
            queue.reset()
        self._model.negotiated = 0
        self._model.reset()
        self._drive()

    # ---- registers ----

    def read(self, offset: int, size: int) -> int:
        """Value of a register (32-bit accesses only), or of configuration space (any size)."""
        if offset >= Register.CONFIG:
            position = offset - Register.CONFIG
            return int.from_bytes(self._model.config[position : position + size], "little")
        if size != 4:
            return 0
        match offset:
            case Register.INTERRUPT_STATUS:
                return self.pending
            case Register.STATUS:
                return self.status
            case Register.MAGIC_VALUE:
                return _MAGIC
            case Register.VERSION:
                return _VERSION
            case Register.DEVICE_ID:
                return self._model.device_id
            case Register.VENDOR_ID:
                return _VENDOR
            case Register.DEVICE_FEATURES:
                return self._offered >> 32 * self._device_features_sel & _WORD if self._device_features_sel < 2 else 0
            case Register.QUEUE_NUM_MAX:
                queue = self._selected()
                return queue.maximum if queue else 0
            case Register.QUEUE_READY:
                queue = self._selected()
                return int(queue.ready) if queue else 0
        return _WORD if offset in _NO_SHARED_REGION else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register. Accesses of another size than 32 bits, and to configuration space, change nothing."""
        if size != 4:
            return
        value &= _WORD
        match offset:
            case Register.QUEUE_NOTIFY:
                self.serve(value)
            case Register.INTERRUPT_ACK:
                self.pending &= ~value
                self._drive()
            case Register.STATUS:
                self._set_status(value)
            case Register.DEVICE_FEATURES_SEL:
                self._device_features_sel = value
            case Register.DRIVER_FEATURES_SEL:
                self._driver_features_sel = value
            case Register.DRIVER_FEATURES:
                self._accept(value)
            case Register.QUEUE_SEL:
                self._queue_sel = value
            case _:
                self._set_up_queue(offset, value)

    def _selected(self) -> Virtqueue | None:
        return self.queues[self._queue_sel] if self._queue_sel < len(self.queues) else None

    def _accept(self, value: int) -> None:
        """DriverFeatures: words in which no feature lies are ignored, and so is what comes after FEATURES_OK."""
        if self._driver_features_sel < 2 and not self.status & FEATURES_OK:
            shift = 32 * self._driver_features_sel
            self._accepted = self._accepted & ~(_WORD << shift) | value << shift

    def _set_status(self, value: int) -> None:
        if value == 0:
            self.reset()
            return
        added = value & (ACKNOWLEDGE | DRIVER | FAILED)
        if value & FEATURES_OK and not self._accepted & ~self._offered and not self._required & ~self._accepted:
            added |= FEATURES_OK
            self._model.negotiated = self._accepted
        if value & DRIVER_OK and (self.status | added) & FEATURES_OK:
            added |= DRIVER_OK
        self.status |= added

    def _set_up_queue(self, offset: int, value: int) -> None:
        queue = self._selected()
        if queue is None:
            return
        if offset == Register.QUEUE_READY:
            if not value & 1:
                queue.ready = False
            elif not queue.ready and not queue.stopped and self.status & FEATURES_OK:
                try:
                    queue.enable()
                except QueueError as error:
                    self._stop(self._queue_sel, error)
        elif queue.ready:
            return
        elif offset == Register.QUEUE_NUM:
            queue.size = value
        elif offset in _AREAS:
            name, shift = _AREAS[Register(offset)]
            setattr(queue, name, getattr(queue, name) & ~(_WORD << shift) | value << shift)

    # ---- service ----

    def serve(self, index: int) -> None:
        """Serve a queue, if the driver has made it and the device live; an error stops the queue."""
        if index >= len(self.queues) or not self.status & DRIVER_OK:
            return
        queue = self.queues[index]
        if not queue.ready or queue.stopped:
            return
        wanted = False
        try:
            queue.begin()
            try:
                self._model.process(index, queue)
            finally:
                wanted = queue.publish()
        except (QueueError, MemoryRefused) as error:
            self._stop(index, error)
        if wanted:
            self.pending |= INTERRUPT_USED
            self._drive()

    def _stop(self, index: int, error: QueueError | MemoryRefused) -> None:
        """The device cannot go on with a queue (section 2.1.2): DEVICE_NEEDS_RESET, and a word to the Host."""
        self.queues[index].stopped = True
        self.status |= DEVICE_NEEDS_RESET
        if self.status & DRIVER_OK:
            self.pending |= INTERRUPT_CONFIG
            self._drive()
        self._report(f"{self.name}: queue {index} stopped: {error}")

    def _drive(self) -> None:
        level = self.pending != 0
        if level != self._line:
            self._line = level
            self._interrupt(level)
