"""Registers that a guest reads without exits."""

import pytest

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.host.hypervisor import Outcome
from realmkit.host.memory import OutOfMemoryError
from realmkit.host.vmm.layout import UART_BASE
from tests.host.code import Code
from tests.host.kit import IO, UNPROTECTED, Guest, World, program

KINDS = pytest.mark.parametrize("kind", ["realm", "vm"])
UART = 3
DR, FR, LCR_H, IMSC, MIS = 0x00, 0x18, 0x2C, 0x38, 0x40
RXFE, TXFE, RX_OR_TIMEOUT = 1 << 4, 1 << 7, 1 << 4 | 1 << 6


def make(world: World, main: Code, kind: str) -> Guest:
    code = program(main, realm=kind == "realm")
    return world.realm(code) if kind == "realm" else world.vm(code)


def uart(kind: str) -> Code:
    return Code().mov(UART, UART_BASE | (UNPROTECTED if kind == "realm" else 0))


@pytest.fixture
def world() -> World:
    return World()


def exits(guest: Guest) -> int:
    return sum(vcpu.exits for vcpu in guest.running.vcpus)


@KINDS
def test_polling_costs_no_exits_and_writes_are_emulated(world: World, kind: str) -> None:
    def polling(rounds: int) -> Guest:
        main = uart(kind).mov(4, rounds).label("poll").load(5, UART, FR, 4).sub(4, 4, 1).cbnz(4, "poll")
        main.store(5, IO)
        for character in b"ok":
            main.mov(6, character).store(6, UART, DR, 4)
        guest = make(
            world, main.mov(6, RX_OR_TIMEOUT).store(6, UART, IMSC, 4).load(7, UART, IMSC, 4).store(7, IO), kind
        )
        assert world.run(guest).outcome is Outcome.POWERED_OFF
        assert guest.values == [TXFE | RXFE, RX_OR_TIMEOUT]
        assert guest.console.text == "ok"
        world.destroy(guest)
        return guest

    few, many = exits(polling(2)), exits(polling(2000))
    assert few == many
    world.assert_clean()


@KINDS
def test_received_characters_are_taken_one_by_one(world: World, kind: str) -> None:
    """Reading DR takes one: it exits while there are some, and each is read once."""
    main = uart(kind).mov(6, 1 << 4).store(6, UART, LCR_H, 4).load(5, UART, FR, 4).load(5, UART, FR, 4).store(5, IO)
    main.label("wait").load(5, UART, FR, 4).store(5, IO, 8).mov(6, RXFE).word(0x8A06_00A7)  # and x7, x5, x6
    main.cbnz(7, "wait")
    for _ in range(3):
        main.load(5, UART, DR, 4).store(5, IO)
    main.load(5, UART, FR, 4).store(5, IO).load(5, UART, MIS, 4).store(5, IO)
    guest = make(world, main, kind)
    guest.probe.on_write = lambda offset, value: (
        guest.console.type(b"abc") if offset == 0 and not guest.console.received else None
    )
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    told = [value for offset, _, value in guest.probe.writes if offset == 0]
    assert told == [TXFE | RXFE, *b"abc", TXFE | RXFE, 0]
    world.destroy(guest)
    world.assert_clean()


@KINDS
def test_the_guest_cannot_write_what_it_is_shown(world: World, kind: str) -> None:
    """A store goes to the device, which does not have that register."""
    main = (
        uart(kind).load(5, UART, FR, 4).load(5, UART, FR, 4).mov(6, 0x55).store(6, UART, FR, 4).store(6, UART, 0x800, 4)
    )
    main.load(5, UART, FR, 4).store(5, IO).load(5, UART, 0x800, 4).store(5, IO)
    guest = make(world, main, kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [TXFE | RXFE, 0]


@KINDS
def test_without_memory_for_it_every_access_is_emulated(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = uart(kind).mov(4, 20).label("poll").load(5, UART, FR, 4).sub(4, 4, 1).cbnz(4, "poll").store(5, IO)
    guest = make(world, main.mov(6, ord("!")).store(6, UART, DR, 4), kind)
    asked = []

    def refuse(*arguments: object) -> int:
        asked.append(arguments)
        raise OutOfMemoryError(GRANULE_SIZE)

    monkeypatch.setattr(world.hv.memory, "allocate", refuse)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert len(asked) == 1
    assert guest.values == [TXFE | RXFE]
    assert guest.console.text == "!"
    assert exits(guest) > 20
    monkeypatch.undo()
    world.destroy(guest)
    world.assert_clean()
