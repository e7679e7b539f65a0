"""The guest's console."""

from realmkit.host.vmm.console import Console
from realmkit.host.vmm.layout import VmConfig
from realmkit.host.vmm.machine import build_devices


def test_output_is_kept_and_passed_on() -> None:
    seen: list[bytes] = []
    console = Console(seen.append)
    console.write(b"a\r\n")
    console.write(b"\xff")
    assert seen == [b"a\r\n", b"\xff"]
    assert console.text == "a\n\N{REPLACEMENT CHARACTER}"


def test_input_waits_for_the_guest_and_is_stamped() -> None:
    console = Console()
    console.type(b"early")
    assert console.has_input
    console.poll(1)
    assert console.has_input, "nobody listens yet"
    got: list[bytes] = []
    console.attach(got.append)
    console.type(b"")
    console.type(b"more")
    console.poll(7)
    assert got == [b"early", b"more"]
    assert console.received == [(7, b"early"), (7, b"more")]
    assert not console.has_input


def test_the_uart_gets_what_is_typed() -> None:
    console = Console()
    devices = build_devices(VmConfig(2 << 20), console)
    uart = devices.windows[0].device
    console.type(b"x")
    assert uart.read(0x18, 4) & 0x10, "receive FIFO empty"
    devices.poll(3)
    assert uart.read(0, 4) == ord("x")


def test_asking_for_power_off_is_a_break_and_a_letter() -> None:
    console = Console()
    devices = build_devices(VmConfig(2 << 20), console)
    uart = devices.windows[0].device
    console.ask_for_power_off()
    devices.poll(9)
    assert uart.read(0, 4) == 1 << 10
    assert uart.read(0, 4) == ord("o")
    assert console.received == [(9, b""), (9, b"o")]
