"""Memory of running Realms: reclaim at any time, sharing, RIPAS changes, block entries, devices."""

from collections.abc import Callable

import pytest

from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rmi import Ripas
from realmkit.arch.rsi import Rsi
from realmkit.host.hypervisor import Outcome
from realmkit.host.realm import FAULT_AROUND, HostRealm
from realmkit.host.vmm.layout import RAM_BASE
from tests.host.code import Code, Cond
from tests.host.kit import ENTRY, IO, MIB, UNPROTECTED, Guest, World, program, say

DATA = RAM_BASE + 4 * MIB
PAGE = GRANULE_SIZE
NO_CHANGE_DESTROYED, CHANGE_DESTROYED = 0, 1


@pytest.fixture
def world() -> World:
    return World()


def realm_of(guest: Guest) -> HostRealm:
    realm: HostRealm = guest.running.realm
    return realm


def at_report(guest: Guest, value: int, action: Callable[[], object]) -> None:
    """Do something when the Realm reports ``value``."""

    def watch(offset: int, got: int) -> None:
        if got == value:
            action()

    guest.probe.on_write = watch


def ripas(code: Code, base: int, top: int, value: Ripas, flags: int = NO_CHANGE_DESTROYED) -> Code:
    """RSI_IPA_STATE_SET; reports X0, X1, X2."""
    code.call(Rsi.IPA_STATE_SET, base, top, value, flags)
    return code.store(0, IO).store(1, IO).store(2, IO)


def end_clean(world: World, guest: Guest) -> None:
    world.destroy(guest)
    world.assert_clean()


# ---- reclaim ----


def test_reclaimed_data_is_gone_and_the_realm_stops_there(world: World) -> None:
    main = Code().mov(1, DATA).mov(2, 0x5EC2E7).store(2, 1)
    guest = world.realm(program(say(main, 1).load(3, 1).store(3, IO)))
    granule: list[int] = []

    def take() -> None:
        granule.append(realm_of(guest).data[DATA])
        assert realm_of(guest).reclaim(DATA)

    at_report(guest, 1, take)
    result = world.run(guest)
    assert result.outcome is Outcome.FAILED
    assert f"{DATA:#x}" in result.reason
    assert "destroyed" in result.reason
    assert guest.values == [1], "the Realm never saw other contents"
    end_clean(world, guest)
    assert world.port.bus.read(Pas.NS, granule[0], PAGE) == bytes(PAGE)


def test_a_realm_that_agrees_gets_an_empty_page_again(world: World) -> None:
    main = say(Code().mov(21, DATA).mov(2, 0x5EC2E7).store(2, 21), 1)
    ripas(main, DATA, DATA + PAGE, Ripas.RAM, NO_CHANGE_DESTROYED)
    ripas(main, DATA, DATA + PAGE, Ripas.RAM, CHANGE_DESTROYED)
    guest = world.realm(program(main.load(3, 21).store(3, IO)))
    at_report(guest, 1, lambda: realm_of(guest).reclaim(DATA))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    # Without permission there is no progress, and the Host says no; with permission the page is zero.
    assert guest.values == [1, 0, DATA, 1, 0, DATA + PAGE, 0, 0]
    end_clean(world, guest)


def test_reclaimed_neighbours_stay_away(world: World) -> None:
    main = say(Code().mov(1, DATA).store(1, 1), 1)
    guest = world.realm(program(main.mov(1, DATA + FAULT_AROUND * PAGE).store(1, 1)))
    realm = realm_of(guest)

    def take() -> None:
        for n in range(FAULT_AROUND):
            realm.reclaim(DATA + n * PAGE)
        realm.reclaim(DATA + (FAULT_AROUND + 1) * PAGE)

    at_report(guest, 1, take)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert not any(DATA + n * PAGE in realm.data for n in range(FAULT_AROUND))
    assert DATA + FAULT_AROUND * PAGE in realm.data
    end_clean(world, guest)


def test_a_page_inside_a_block_is_reclaimed_alone(world: World) -> None:
    main = Code().mov(1, DATA).mov(2, DATA + 2 * MIB).mov(4, PAGE).label("next").store(1, 1)
    main.add_reg(1, 1, 4).cmp(1, 2).b_if(Cond.LO, "next")
    say(main, 1).mov(1, DATA + 5 * PAGE).load(3, 1).store(3, IO).mov(1, DATA + 6 * PAGE).load(3, 1)
    guest = world.realm(program(main))
    realm = realm_of(guest)

    def take() -> None:
        assert DATA in realm.blocks
        assert realm.reclaim(DATA + 6 * PAGE)
        assert DATA not in realm.blocks
        assert (3, DATA) in realm.tables

    at_report(guest, 1, take)
    assert world.run(guest).outcome is Outcome.FAILED
    assert guest.values == [1, DATA + 5 * PAGE]
    end_clean(world, guest)


def test_reclaimed_code_stops_the_realm(world: World) -> None:
    guest = world.realm(program(say(say(Code(), 1), 2)))
    page = ENTRY + PAGE

    def take() -> None:
        assert realm_of(guest).reclaim(page)

    at_report(guest, 1, take)
    assert world.run(guest).outcome is Outcome.FAILED
    assert guest.values == [1]
    end_clean(world, guest)


def test_a_shared_page_is_reclaimed_and_comes_back_empty(world: World) -> None:
    alias = UNPROTECTED | DATA
    main = ripas(Code(), DATA, DATA + PAGE, Ripas.EMPTY).mov(1, alias).mov(2, 7).store(2, 1)
    guest = world.realm(program(say(main, 0x77).load(3, 1).store(3, IO)))
    at_report(guest, 0x77, lambda: realm_of(guest).reclaim(alias))
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values[-2:] == [0x77, 0]
    end_clean(world, guest)


def test_nothing_to_reclaim(world: World) -> None:
    guest = world.realm(program())
    for ipa in (DATA, UNPROTECTED | DATA, 0):
        assert not realm_of(guest).reclaim(ipa)
    end_clean(world, guest)


# ---- sharing and RIPAS ----


def test_a_page_is_shared_and_taken_back(world: World) -> None:
    alias = UNPROTECTED | DATA
    main = Code().mov(21, DATA).mov(2, 0x11).store(2, 21)
    ripas(main, DATA, DATA + PAGE, Ripas.EMPTY).mov(22, alias).mov(2, 0x22).store(2, 22)
    say(main, 0x77).load(3, 22).store(3, IO)
    ripas(main, DATA, DATA + PAGE, Ripas.RAM).load(3, 21).store(3, IO)
    guest = world.realm(program(main))
    realm = realm_of(guest)

    def host_side() -> None:
        assert DATA in realm.empty
        for address in (DATA, alias):
            page = realm.dma_page(address)
            assert page == realm.shared[alias]
        assert world.port.bus.read64(Pas.NS, realm.shared[alias]) == 0x22
        world.port.bus.write64(Pas.NS, realm.shared[alias], 0x33)

    at_report(guest, 0x77, host_side)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [0, DATA + PAGE, 0, 0x77, 0x33, 0, DATA + PAGE, 0, 0]
    assert not realm.shared
    assert DATA not in realm.empty
    assert realm.dma_page(DATA) is None
    end_clean(world, guest)


def test_devices_reach_only_what_the_realm_shares(world: World) -> None:
    guest = world.realm(program(ripas(Code(), DATA, DATA + 2 * PAGE, Ripas.EMPTY)))
    realm = realm_of(guest)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert realm.dma_page(DATA + PAGE) is not None, "shared and not touched yet"
    for address in (DATA + 2 * PAGE, ENTRY, UNPROTECTED | ENTRY, 0, 1 << 63, (1 << 64) - 1, UNPROTECTED << 1 | DATA):
        assert realm.dma_page(address) is None
    end_clean(world, guest)


@pytest.mark.parametrize(
    ("base", "top", "value", "reached", "rejected"),
    [
        (RAM_BASE, RAM_BASE + 8 * MIB, Ripas.RAM, RAM_BASE + 8 * MIB, 0),
        (0, UNPROTECTED, Ripas.RAM, 0, 1),
        (0, UNPROTECTED, Ripas.EMPTY, 0, 0),
        (RAM_BASE + 8 * MIB, UNPROTECTED, Ripas.EMPTY, RAM_BASE + 8 * MIB, 0),
        (DATA, UNPROTECTED, Ripas.EMPTY, RAM_BASE + 8 * MIB, 0),
        (DATA, UNPROTECTED, Ripas.RAM, RAM_BASE + 8 * MIB, 0),
        (DATA, DATA + 2 * MIB, Ripas.EMPTY, DATA + 2 * MIB, 0),
        (DATA + PAGE, DATA + 3 * PAGE, Ripas.EMPTY, DATA + 3 * PAGE, 0),
    ],
)
def test_ripas_changes_of_any_range(
    world: World, base: int, top: int, value: Ripas, reached: int, rejected: int
) -> None:
    guest = world.realm(program(ripas(Code(), base, top, value)))
    tables = len(realm_of(guest).tables)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [0, reached, rejected]
    assert len(realm_of(guest).tables) <= tables + 2
    end_clean(world, guest)


def test_a_realm_cannot_make_its_host_spend_tables(world: World) -> None:
    """Page-sized changes all over the IPA space, outside RAM."""
    main = Code().mov(21, 0).mov(22, 200).mov(23, 2 * MIB).label("next").copy(1, 21).add(2, 21, 1 << 11).add(2, 2, 2048)
    main.mov(3, Ripas.EMPTY).mov(4, 0).mov(0, Rsi.IPA_STATE_SET).smc()
    main.add_reg(21, 21, 23).sub(22, 22, 1).cbnz(22, "next")
    guest = world.realm(program(main))
    tables = len(realm_of(guest).tables)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert len(realm_of(guest).tables) == tables
    end_clean(world, guest)


def test_a_shared_block_costs_no_table_afterwards(world: World) -> None:
    main = Code().mov(1, DATA).mov(2, DATA + 2 * MIB).mov(4, PAGE).label("next").store(1, 1)
    main.add_reg(1, 1, 4).cmp(1, 2).b_if(Cond.LO, "next")
    guest = world.realm(program(ripas(main, DATA, DATA + 2 * MIB, Ripas.EMPTY)))
    realm = realm_of(guest)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert not any(DATA <= ipa < DATA + 2 * MIB for ipa in realm.data)
    assert (3, DATA) not in realm.tables
    end_clean(world, guest)


# ---- block entries ----


def test_loaded_blocks_are_folded(world: World) -> None:
    image = program().bytes().ljust(5 * MIB, b"\x5a")
    guest = world.realm(image)
    realm = realm_of(guest)
    assert realm.blocks == {RAM_BASE + 2 * MIB}
    assert sorted(ipa for level, ipa in realm.tables if level == 3) == [
        RAM_BASE,
        RAM_BASE + 4 * MIB,
        RAM_BASE + 6 * MIB,
    ]
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    end_clean(world, guest)


def test_the_number_of_tables_does_not_grow_with_memory() -> None:
    tables = set()
    for memory in (256 * MIB, 8 << 30, 1 << 40):
        world = World()
        guest = world.realm(program(), memory=memory)
        tables.add(len(realm_of(guest).tables))
        end_clean(world, guest)
    assert len(tables) == 1
