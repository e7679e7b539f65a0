"""Console device with ports."""

import struct

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.devices.virtio import Console, ConsolePort
from realmkit.devices.virtio.console import MAX_INPUT, MAX_OUTPUT, ControlEvent
from realmkit.devices.virtio.transport import Register
from tests.devices.virtio.driver import Driver

NAME = "org.example.port"
RX0, TX0, CONTROL_RX, CONTROL_TX, RX1, TX1 = range(6)


class Bench:
    def __init__(self, features: int | None = None) -> None:
        self.output = [bytearray(), bytearray()]
        self.console = Console([ConsolePort(self.output[0].extend), ConsolePort(self.output[1].extend, NAME)])
        self.driver = Driver(self.console).start(features)

    def control(self, port: int, event: int, value: int = 1) -> None:
        self.driver.rings[CONTROL_TX].add([struct.pack("<IHH", port, event, value)])
        self.driver.kick(CONTROL_TX)
        self.driver.rings[CONTROL_TX].collect()

    def events(self) -> list[tuple[int, int, int, bytes]]:
        found = []
        for _, length, content in self.driver.rings[CONTROL_RX].collect():
            found.append((*struct.unpack_from("<IHH", content), content[8:length]))
        return found

    def offer(self, queue: int, count: int = 1, size: int = 64) -> None:
        for _ in range(count):
            self.driver.rings[queue].add([], [size])
        self.driver.kick(queue)

    def received(self, queue: int) -> bytes:
        return b"".join(content[:length] for _, length, content in self.driver.rings[queue].collect())

    def handshake(self) -> "Bench":
        self.offer(CONTROL_RX, 4)
        self.control(0, ControlEvent.DEVICE_READY)
        for port in (0, 1):
            self.control(port, ControlEvent.PORT_READY)
            self.control(port, ControlEvent.PORT_OPEN)
            self.offer(CONTROL_RX, len(self.events()))
        return self


def test_needs_a_port() -> None:
    with pytest.raises(RealmkitError, match="at least one port"):
        Console([])


def test_configuration() -> None:
    driver = Bench().driver
    assert driver.get(Register.CONFIG + 4) == 2
    assert driver.offered & 0xFF_FFFF == 2
    assert len(driver.device.queues) == 6


def test_ports_are_announced() -> None:
    bench = Bench()
    bench.offer(CONTROL_RX, 4)
    bench.control(0, ControlEvent.DEVICE_READY)
    assert bench.events() == [(0, ControlEvent.DEVICE_ADD, 1, b""), (1, ControlEvent.DEVICE_ADD, 1, b"")]
    bench.control(0, ControlEvent.PORT_READY)
    assert bench.events() == [(0, ControlEvent.CONSOLE_PORT, 1, b""), (0, ControlEvent.PORT_OPEN, 1, b"")]
    bench.offer(CONTROL_RX, 4)
    bench.control(1, ControlEvent.PORT_READY)
    assert bench.events() == [(1, ControlEvent.PORT_NAME, 1, NAME.encode()), (1, ControlEvent.PORT_OPEN, 1, b"")]


def test_announcements_wait_for_buffers() -> None:
    bench = Bench()
    bench.control(0, ControlEvent.DEVICE_READY)
    bench.offer(CONTROL_RX)
    assert bench.events() == [(0, ControlEvent.DEVICE_ADD, 1, b"")]
    bench.offer(CONTROL_RX)
    assert bench.events() == [(1, ControlEvent.DEVICE_ADD, 1, b"")]


def test_output_of_both_ports() -> None:
    bench = Bench().handshake()
    bench.driver.rings[TX0].add([b"login", b": "])
    bench.driver.rings[TX0].add([b"root\n"])
    bench.driver.kick(TX0)
    bench.driver.rings[TX1].add([b"token"])
    bench.driver.kick(TX1)
    assert bench.output == [b"login: root\n", b"token"]
    assert len(bench.driver.rings[TX0].collect()) == 2


def test_input_waits_until_the_port_is_open() -> None:
    bench = Bench()
    assert bench.console.feed(1, b"nonce") == 5
    bench.offer(CONTROL_RX, 4)
    bench.offer(RX1, 2)
    bench.control(0, ControlEvent.DEVICE_READY)
    bench.control(1, ControlEvent.PORT_READY)
    assert bench.received(RX1) == b""
    bench.control(1, ControlEvent.PORT_OPEN)
    assert bench.received(RX1) == b"nonce"


def test_input_waits_for_buffers_and_fills_several() -> None:
    bench = Bench().handshake()
    bench.console.feed(0, bytes(range(200)))
    assert bench.received(RX0) == b""
    bench.offer(RX0, 2)
    assert bench.received(RX0) == bytes(range(128))
    bench.offer(RX0, 3)
    assert bench.received(RX0) == bytes(range(128, 200))
    bench.console.feed(0, b"more")
    assert bench.received(RX0) == b"more"
    assert bench.driver.line()


def test_input_does_not_mix() -> None:
    bench = Bench().handshake()
    bench.offer(RX0)
    bench.offer(RX1)
    bench.console.feed(0, b"zero")
    bench.console.feed(1, b"one")
    assert (bench.received(RX0), bench.received(RX1)) == (b"zero", b"one")


def test_a_closed_port_keeps_its_input() -> None:
    bench = Bench().handshake()
    bench.offer(RX1)
    bench.control(1, ControlEvent.PORT_OPEN, 0)
    bench.console.feed(1, b"later")
    assert bench.received(RX1) == b""
    bench.control(1, ControlEvent.PORT_OPEN, 1)
    assert bench.received(RX1) == b"later"


def test_input_is_bounded() -> None:
    bench = Bench()
    assert bench.console.feed(0, bytes(MAX_INPUT - 1)) == MAX_INPUT - 1
    assert bench.console.feed(0, b"abc") == 1
    assert bench.console.feed(0, b"abc") == 0


def test_reset_closes_ports_and_input_goes_to_the_next_driver() -> None:
    bench = Bench().handshake()
    bench.console.feed(1, b"nonce")
    bench.driver.start()
    bench.offer(RX1)
    assert bench.received(RX1) == b""
    bench.handshake()
    assert bench.received(RX1) == b"nonce"


def test_without_ports_it_is_a_plain_console() -> None:
    bench = Bench(features=0)
    bench.offer(RX0)
    bench.console.feed(0, b"in")
    assert bench.received(RX0) == b"in"
    bench.driver.rings[TX0].add([b"out"])
    bench.driver.kick(TX0)
    assert bench.output[0] == b"out"


def test_an_answer_while_output_is_served() -> None:
    """What watches a port may feed it at once."""
    replies: list[int] = []
    console = Console([ConsolePort(lambda data: replies.append(console.feed(0, data[::-1])))])
    driver = Driver(console).start(features=0)
    driver.rings[RX0].add([], [16])
    driver.rings[TX0].add([b"abc"])
    driver.kick(TX0)
    assert replies == [3]
    ((_, length, content),) = driver.rings[RX0].collect()
    assert content[:length] == b"cba"


@pytest.mark.parametrize("port", [2, 0xFFFF_FFFF])
@pytest.mark.parametrize("event", [*ControlEvent, 0xFFFF])
def test_messages_for_ports_that_do_not_exist(port: int, event: int) -> None:
    bench = Bench()
    bench.offer(CONTROL_RX, 4)
    bench.control(port, event)
    assert bench.driver.reports == []
    assert all(number < 2 for number, *_ in bench.events())


def test_short_control_message() -> None:
    bench = Bench()
    bench.driver.rings[CONTROL_TX].add([b"abc"])
    bench.driver.kick(CONTROL_TX)
    assert "queue 3 stopped: a control message of 3 bytes" in bench.driver.reports[0]


def test_small_control_buffer() -> None:
    bench = Bench()
    bench.offer(CONTROL_RX, size=4)
    bench.control(0, ControlEvent.DEVICE_READY)
    assert "queue 2 stopped: a buffer of 4 bytes" in bench.driver.reports[0]
    bench.driver.rings[TX0].add([b"still here"])
    bench.driver.kick(TX0)
    assert bench.output[0] == b"still here"


def test_a_flood_of_control_messages_is_stopped() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.driver.rings[CONTROL_TX].add([struct.pack("<IHH", 0, ControlEvent.DEVICE_READY, 1)])
        bench.driver.kick(CONTROL_TX)
        if bench.driver.reports:
            break
        bench.driver.rings[CONTROL_TX].collect()
    assert "control messages wait for buffers" in bench.driver.reports[0]


def test_output_longer_than_the_limit() -> None:
    bench = Bench()
    ring = bench.driver.rings[TX0]
    ring.describe(0, ring.buffers, MAX_OUTPUT + 1, 0, 0)
    ring.offer(0)
    bench.driver.kick(TX0)
    assert f"a request has {MAX_OUTPUT + 1} bytes" in bench.driver.reports[0]
    assert bench.output[0] == b""


def test_an_input_buffer_without_room() -> None:
    bench = Bench().handshake()
    bench.driver.rings[RX0].add([b"readable"])
    bench.console.feed(0, b"x")
    assert "no room for input" in bench.driver.reports[0]
    assert bytes(bench.console.ports[0].waiting) == b"x"
