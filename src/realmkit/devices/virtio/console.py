"""Console device with several ports (virtio 1.2 section 5.3).

Port 0 is the guest's console; further ports have names by which its user space finds them. Input waits, up to
:data:`MAX_INPUT`, until the guest has opened the port and offers buffers: drivers throw away what arrives earlier.
"""

import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.devices.virtio.model import VirtioModel
from realmkit.devices.virtio.queue import QueueError, Virtqueue

FEATURE_MULTIPORT: Final = 1 << 1
MAX_INPUT: Final = 64 << 10
"""Bytes that wait for a port at most."""
MAX_OUTPUT: Final = 128 << 10
"""Bytes of one output buffer at most."""
RECEIVE_QUEUE_SIZE: Final = 4
"""Drivers fill it with buffers of a page each, for as long as the port exists."""
TRANSMIT_QUEUE_SIZE: Final = 32
CONTROL_RECEIVE: Final = 2
CONTROL_TRANSMIT: Final = 3

_CONFIG: Final = struct.Struct("<HHII")
_CONTROL: Final = struct.Struct("<IHH")
_MAX_EVENTS: Final = 256


class ControlEvent(IntEnum):
    """Events of the control queues."""

    DEVICE_READY = 0
    DEVICE_ADD = 1
    DEVICE_REMOVE = 2
    PORT_READY = 3
    CONSOLE_PORT = 4
    RESIZE = 5
    PORT_OPEN = 6
    PORT_NAME = 7


class ConsolePort:
    """A port: ``output(bytes)`` gets what the guest writes and must not raise; ``name`` is empty for the console."""

    def __init__(self, output: Callable[[bytes], None], name: str = "") -> None:
        self.output = output
        self.name = name
        self.waiting = bytearray()
        """Input that the guest has not taken yet."""
        self.opened = False
        """The guest has the port open."""


class Console(VirtioModel):
    """Ports, the first of which is the console."""

    device_id = 3
    features = FEATURE_MULTIPORT

    def __init__(self, ports: Sequence[ConsolePort]) -> None:
        super().__init__()
        if not ports:
            raise RealmkitError("a virtio console needs at least one port")
        self.ports = tuple(ports)
        self.queue_sizes = (RECEIVE_QUEUE_SIZE, TRANSMIT_QUEUE_SIZE) * (1 + len(self.ports))
        self.config = _CONFIG.pack(0, 0, len(self.ports), 0)
        self._events: list[bytes] = []

    def reset(self) -> None:
        """The guest has no port open; input goes on waiting."""
        self._events = []
        for port in self.ports:
            port.opened = False

    def feed(self, port: int, data: bytes) -> int:
        """Input for a port: how many bytes, from the start, there was room for."""
        waiting = self.ports[port].waiting
        taken = data[: MAX_INPUT - len(waiting)]
        waiting += taken
        self.serve(_receive_queue(port))
        return len(taken)

    def process(self, index: int, queue: Virtqueue) -> None:
        """Serve a queue: control, or receive and transmit of a port."""
        if index == CONTROL_RECEIVE:
            self._send_events(queue)
        elif index == CONTROL_TRANSMIT:
            self._take_events(queue)
        else:
            number = index // 2 - 1 if index > CONTROL_TRANSMIT else 0
            if index % 2:
                self._transmit(self.ports[number], queue)
            else:
                self._receive(self.ports[number], queue)

    # ---- data ----

    def _receive(self, port: ConsolePort, queue: Virtqueue) -> None:
        """Waiting input goes into the guest's buffers."""
        if not port.opened and self.negotiated & FEATURE_MULTIPORT:
            return
        while port.waiting and (chain := queue.pop()):
            size = min(len(port.waiting), chain.writable_size)
            if not size:
                raise QueueError(f"the buffer at descriptor {chain.head} has no room for input")
            chain.write(bytes(port.waiting[:size]))
            del port.waiting[:size]
            queue.push(chain, size)

    def _transmit(self, port: ConsolePort, queue: Virtqueue) -> None:
        while chain := queue.pop():
            data = chain.read(MAX_OUTPUT)
            queue.push(chain, 0)
            if data:
                port.output(data)

    # ---- control ----

    def _take_events(self, queue: Virtqueue) -> None:
        """Control messages of the driver; the answers to them go out on the other control queue."""
        while chain := queue.pop():
            message = chain.read(MAX_OUTPUT)
            queue.push(chain, 0)
            if len(message) < _CONTROL.size:
                raise QueueError(f"a control message of {len(message)} bytes")
            self._control(*_CONTROL.unpack_from(message))
        self.serve(CONTROL_RECEIVE)

    def _control(self, number: int, event: int, value: int) -> None:
        if event == ControlEvent.DEVICE_READY:
            if value:
                for other in range(len(self.ports)):
                    self._event(other, ControlEvent.DEVICE_ADD, 1)
            return
        if number >= len(self.ports):
            return
        port = self.ports[number]
        if event == ControlEvent.PORT_READY and value:
            if number == 0:
                self._event(0, ControlEvent.CONSOLE_PORT, 1)
            if port.name:
                self._event(number, ControlEvent.PORT_NAME, 1, port.name.encode())
            self._event(number, ControlEvent.PORT_OPEN, 1)
        elif event == ControlEvent.PORT_OPEN:
            port.opened = bool(value)
            if port.opened:
                self.serve(_receive_queue(number))

    def _event(self, number: int, event: ControlEvent, value: int, text: bytes = b"") -> None:
        if len(self._events) >= _MAX_EVENTS:
            raise QueueError(f"more than {_MAX_EVENTS} control messages wait for buffers")
        self._events.append(_CONTROL.pack(number, event, value) + text)

    def _send_events(self, queue: Virtqueue) -> None:
        while self._events and (chain := queue.pop()):
            message = self._events[0]
            if chain.writable_size < len(message):
                raise QueueError(f"a buffer of {chain.writable_size} bytes for a control message of {len(message)}")
            chain.write(message)
            queue.push(chain, len(message))
            del self._events[0]


def _receive_queue(port: int) -> int:
    return 0 if port == 0 else 2 + 2 * port
