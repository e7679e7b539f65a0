"""Guests from creation to destruction on the real stack: exits, memory on demand, devices, limits."""

from dataclasses import dataclass

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.esr import Ec, exception_class
from realmkit.arch.events import Call, Event
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.host.hypervisor import Outcome
from realmkit.host.running import RunningGuest
from realmkit.host.vmm.layout import RAM_BASE
from realmkit.machine.platforms import small
from tests.host.code import XZR, Code, Cond
from tests.host.kit import ENTRY, IO, MIB, PROBE, UNPROTECTED, Guest, World, big_world, program, say

SEA = 0x10


@dataclass(slots=True)
class Counts:
    """RMI calls that happen."""

    rmi: int = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Call) and event.interface == "rmi":
            self.rmi += 1


@pytest.fixture
def world() -> World:
    return World()


def make(world: World, main: Code, kind: str, **options: int) -> Guest:
    """The same program as a Realm or as a plain VM."""
    code = program(main, realm=kind == "realm")
    return world.realm(code, **options) if kind == "realm" else world.vm(code, **options)


KINDS = pytest.mark.parametrize("kind", ["realm", "vm"])


@KINDS
def test_runs_and_leaves_nothing(world: World, kind: str) -> None:
    guest = make(world, say(Code(), 42), kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [42]
    world.destroy(guest)
    world.assert_clean()


def test_destroying_twice_has_no_effect(world: World) -> None:
    first = world.realm(program())
    world.destroy(first)
    second = world.realm(program())
    world.destroy(first)
    third = world.realm(program())
    assert {second.running.realm.vmid, third.running.realm.vmid} == {1, 2}
    world.destroy(second, third)
    world.assert_clean()


@KINDS
def test_every_access_size_reaches_a_device(world: World, kind: str) -> None:
    main = Code().mov(1, 0x1122_3344_5566_7788)
    for size in (1, 2, 4, 8):
        main.store(1, IO, 8 * size, size)
    for size in (1, 2, 4, 8):
        main.load(2, IO, 0, size).store(2, IO)
    guest = make(world, main, kind)
    guest.probe.inputs = [0xFFFF_FFFF_FFFF_FFFF] * 4
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.probe.writes[:4] == [
        (8, 1, 0x88),
        (16, 2, 0x7788),
        (32, 4, 0x5566_7788),
        (64, 8, 0x1122_3344_5566_7788),
    ]
    assert guest.values[4:] == [0xFF, 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF]


@KINDS
def test_a_device_register_can_be_discarded_and_zero_stored(world: World, kind: str) -> None:
    guest = make(world, Code().load(XZR, IO).store(XZR, IO, 8), kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.probe.writes == [(8, 8, 0)]


@KINDS
@pytest.mark.parametrize("address", [0x0500_0000, PROBE + GRANULE_SIZE, PROBE + GRANULE_SIZE - 4])
def test_nothing_at_an_address_is_an_external_abort(world: World, kind: str, address: int) -> None:
    alias = UNPROTECTED if kind == "realm" else 0
    guest = make(world, Code().mov(1, alias | address).load(2, 1).store(2, IO), kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    tag, esr, _, far = guest.values
    assert tag == 0xE
    assert exception_class(esr) == Ec.DABT_SAME
    assert esr & 0x3F == SEA
    assert far == alias | address
    assert guest.devices.unknown == [f"read from guest address {address:#x}, where no device is"]


@KINDS
def test_remarks_about_a_misbehaving_guest_are_limited(world: World, kind: str) -> None:
    # The handler of the external abort returns to the same access.
    alias = UNPROTECTED if kind == "realm" else 0
    code = program(Code().mov(1, alias | 0x0500_0000).load(2, 1), realm=kind == "realm", sync=Code().eret())
    guest = world.realm(code) if kind == "realm" else world.vm(code)
    assert world.run(guest, 200_000).outcome is Outcome.MAX_TICKS
    assert guest.running.vcpus[0].exits > 200
    assert len(guest.devices.unknown) == 100


@KINDS
def test_memory_comes_on_demand_and_is_zero(world: World, kind: str) -> None:
    # Write one word to each page of the last 2 MB of RAM, then read a page that was never written.
    base = RAM_BASE + 6 * MIB
    main = Code().mov(1, base).mov(2, base + 2 * MIB - 4096).mov(4, 0x1000).label("next").load(5, 1).store(1, 1, 8)
    main.add_reg(1, 1, 4).cmp(1, 2).b_if(Cond.LO, "next").load(3, 2).store(3, IO)
    guest = make(world, main, kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [0]
    assert int.from_bytes(world.read(guest, base + 0x3008), "little") == base + 0x3000
    if kind == "realm":
        realm = guest.running.realm
        assert base in realm.blocks, "512 pages of memory on demand become one entry"
        assert (3, base) not in realm.tables
    world.destroy(guest)
    world.assert_clean()


def test_memory_outside_ram_is_an_abort_of_the_realm(world: World) -> None:
    main = Code().mov(1, RAM_BASE + 64 * MIB).load(2, 1)
    guest = world.realm(program(main))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values[0] == 0xE
    assert guest.values[1] & 0x3F == SEA


@KINDS
def test_endless_loop_ends_at_the_limit(world: World, kind: str) -> None:
    guest = make(world, Code().label("here").b("here"), kind)
    start = world.port.now()
    result = world.run(guest, 5_000_000)
    assert result.outcome is Outcome.MAX_TICKS
    assert 0 <= world.port.now() - start - 5_000_000 < 100_000
    world.destroy(guest)
    world.assert_clean()


@KINDS
@pytest.mark.parametrize("body", ["exits", "wfi", "smc"])
def test_no_kind_of_loop_escapes_the_limit(world: World, kind: str, body: str) -> None:
    main = Code().label("here")
    if body == "exits":
        main.store(1, IO)
    elif body == "wfi":
        main.mov(1, 1).msr("CNTV_CTL_EL0", 1).mov(1, 1000).msr("CNTV_TVAL_EL0", 1).wfi()
    else:
        main.mov(0, 0x8400_0000).smc()
    guest = make(world, main.b("here"), kind)
    assert world.run(guest, 400_000).outcome is Outcome.MAX_TICKS
    world.destroy(guest)
    world.assert_clean()


@KINDS
def test_stop_requested_ends_the_run(world: World, kind: str) -> None:
    guest = make(world, Code().label("here").b("here"), kind)
    guest.running.after_exit.append(lambda *_: setattr(world.hv, "stop_requested", True))
    assert world.run(guest).outcome is Outcome.INTERRUPTED
    world.destroy(guest)
    world.assert_clean()


@KINDS
def test_stop_requested_during_sleep(world: World, kind: str) -> None:
    main = Code().mov(1, 1 << 60).msr("CNTV_CVAL_EL0", 1).mov(1, 1).msr("CNTV_CTL_EL0", 1).wfi()
    guest = make(world, main, kind)

    def stop(until: int | None) -> bool:
        assert until == 1 << 60
        world.hv.stop_requested = True
        return True

    world.hv.on_idle = stop
    assert world.hv.run(guest.running).outcome is Outcome.INTERRUPTED


@KINDS
def test_waiting_without_a_timer_is_stuck(world: World, kind: str) -> None:
    guest = make(world, Code().wfi(), kind)
    assert world.run(guest).outcome is Outcome.STUCK


@KINDS
def test_waiting_takes_no_host_time(world: World, kind: str) -> None:
    # Ten hours of virtual time in one WFI.
    ticks = 36_000 * 100_000_000
    main = Code().mrs(1, "CNTVCT_EL0").mov(2, ticks).add_reg(1, 1, 2).msr("CNTV_CVAL_EL0", 1)
    main.mov(1, 1).msr("CNTV_CTL_EL0", 1).wfi().mrs(1, "CNTV_CTL_EL0").store(1, IO)
    guest = make(world, main, kind)
    assert world.run(guest, 2 * ticks).outcome is Outcome.POWERED_OFF
    assert guest.values == [5]
    assert sum(vcpu.exits for vcpu in guest.running.vcpus) < 10


def test_creation_is_refused_without_memory() -> None:
    world = World(small(16 * MIB))
    with pytest.raises(RealmkitError, match="no 0x1000 bytes of memory left"):
        world.realm(bytes(24 * MIB), memory=64 * MIB)
    world.assert_clean()


def test_running_out_of_memory_ends_the_guest_and_only_it() -> None:
    world = World(small(16 * MIB))
    base = RAM_BASE + 2 * MIB
    touch = Code().mov(1, base).mov(2, base + 24 * MIB).mov(4, 0x1000).label("next").store(1, 1)
    touch.add_reg(1, 1, 4).cmp(1, 2).b_if(Cond.LO, "next")
    greedy = world.realm(program(touch), memory=64 * MIB)
    other = world.realm(program(say(Code(), 7)))
    results = world.run_all([greedy, other])
    assert results[0].outcome is Outcome.FAILED
    assert "memory" in results[0].reason
    assert results[1].outcome is Outcome.POWERED_OFF
    world.destroy(greedy, other)
    world.assert_clean()


def test_realms_one_after_another_use_vmids_again() -> None:
    world = World()
    for _ in range(300):
        guest = world.realm(b"\0" * 8, memory=2 * MIB)
        world.destroy(guest)
    world.assert_clean()


def test_two_hundred_realms_at_once() -> None:
    world = big_world()
    guests = [world.realm(program(say(Code(), n)), memory=2 * MIB) for n in range(200)]
    assert len({guest.running.realm.vmid for guest in guests}) == 200
    for guest in guests[::50]:
        assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guests[50].values == [50]
    world.destroy(*guests)
    world.assert_clean()


def test_more_realms_than_vmids_is_an_error_and_recovers() -> None:
    world = big_world()
    guests = [world.realm(b"\0" * 8, memory=2 * MIB) for _ in range(255)]
    with pytest.raises(RealmkitError, match="255 VMIDs"):
        world.realm(b"\0" * 8, memory=2 * MIB)
    world.destroy(guests.pop())
    guests.append(world.realm(b"\0" * 8, memory=2 * MIB))
    world.destroy(*guests)
    world.assert_clean()


def test_destruction_costs_what_was_used() -> None:
    world = big_world()
    calls = []
    for memory in (8 * MIB, 1 << 40):
        guest = world.realm(program(), memory=memory)
        assert world.run(guest).outcome is Outcome.POWERED_OFF
        counts = Counts()
        stop = world.stack.events.subscribe(counts)
        world.destroy(guest)
        stop()
        calls.append(counts.rmi)
    assert calls[1] <= calls[0] + 8, "more starting tables, nothing else"
    world.assert_clean()


def test_equal_runs_are_equal() -> None:
    def run() -> tuple[int, list[int], int]:
        world = World()
        main = Code().mrs(1, "CNTVCT_EL0").store(1, IO).mov(2, RAM_BASE + 5 * MIB).store(1, 2).mrs(1, "CNTPCT_EL0")
        guest = world.realm(program(main.store(1, IO)))
        world.run(guest)
        return world.port.now(), guest.values, guest.running.vcpus[0].exits

    assert run() == run()


def test_results_of_guests_that_were_not_run() -> None:
    world = World()
    assert world.hv.run_all([]) == []
    guest = world.realm(program())
    running: RunningGuest = guest.running
    assert running.result is None
    world.destroy(guest)
    assert ENTRY == 0x8008_0000
