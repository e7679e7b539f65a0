"""Nothing that a PE has cached outlives a change: real code has used the page before the Host takes it away."""

import pytest

from realmkit.arch.esr import FSC_GPF, FSC_TRANSLATION, Ec, exception_class
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ExitReason, RecExit, Ripas, Rmi
from realmkit.arch.rsi import IPA_STATE_CHANGE_DESTROYED, Rsi
from realmkit.host.rmi import RmiClient
from tests.isolation import code
from tests.isolation.kit import Run, World, fault_ipa
from tests.isolation.programs import DATA, SHARED, ask, call, function, load, out, put, secret, word

BLOCK = 0x20_0000
OTHER = 0x5000
"""An IPA that is RAM and not there."""


def is_abort(run: Run, ipa: int, ec: Ec = Ec.DABT_LOWER) -> bool:
    """The Realm left for the Host because a page is not there."""
    record = run.exit
    return (
        record is not None
        and record.exit_reason == ExitReason.SYNC
        and exception_class(record.esr) == ec
        and record.esr & 0x3F == FSC_TRANSLATION + 3
        and fault_ipa(record) & -GRANULE_SIZE == ipa
    )


def ripas_change(run: Run) -> RecExit:
    """The exit of RSI_IPA_STATE_SET."""
    assert run.exit is not None
    assert run.exit.exit_reason == ExitReason.RIPAS_CHANGE
    return run.exit


def become_ram(ipa: int) -> list[int]:
    """RSI_IPA_STATE_SET of one page, DESTROYED or not."""
    return code.smc(Rsi.IPA_STATE_SET, ipa, ipa + GRANULE_SIZE, Ripas.RAM, IPA_STATE_CHANGE_DESTROYED)


@pytest.mark.parametrize("again", [load(DATA), put(DATA, 9)])
def test_a_destroyed_page(again: list[int]) -> None:
    world = World()
    realm = world.realm([*put(DATA, 5), *load(DATA), ask(3), *again, *load(DATA)], {DATA: secret("a")})
    assert realm.run().values == [5]
    granule = realm.reclaim(DATA)
    assert not any(world.chip(granule))
    assert is_abort(realm.run(0), DATA)
    assert not any(world.chip(granule))


def test_destroyed_code() -> None:
    world = World()
    realm = world.realm([*call(DATA), out(0), ask(3), *call(DATA), out(0)], {DATA: function(7)})
    assert realm.run().values == [7]
    realm.reclaim(DATA)
    run = realm.run(0)
    assert run.values == []
    assert is_abort(run, DATA, Ec.IABT_LOWER)


def test_a_page_that_others_execute_and_write_at_the_same_time() -> None:
    """The page is taken while a loop runs over it, not only between two runs."""
    loop = [*code.mov(1, DATA), *code.mov(2, 0), code.store(2, 1), code.add(2, 2, 1), code.b(-2)]
    world = World()
    realm = world.realm(loop)
    first = realm.enter()
    assert first.exit_reason == ExitReason.IRQ
    assert word(world.chip(realm.data[DATA])) > 1000
    granule = realm.reclaim(DATA)
    record = realm.enter()
    assert is_abort(Run(exit=record), DATA)
    world.release(granule)


@pytest.mark.parametrize("again", [load(SHARED), put(SHARED, 9)])
def test_an_unmapped_shared_page(again: list[int]) -> None:
    world = World()
    page = world.page(secret("host"))
    realm = world.realm([*load(SHARED), *put(SHARED + 8, 3), ask(3), *again])
    realm.share(page)
    assert realm.run().values == [word(secret("host"))]
    realm.unshare()
    run = realm.run(0)
    assert run.values == []
    assert is_abort(run, SHARED)
    assert world.read(page) == secret("host")[:8]


def test_a_shared_page_that_moved() -> None:
    world = World()
    old, new = world.page(b"old page"), world.page(b"new page")
    realm = world.realm([*load(SHARED), ask(3), *load(SHARED), *put(SHARED, 1)])
    realm.share(old)
    assert realm.run().values == [word(b"old page")]
    realm.unshare()
    realm.share(new)
    assert realm.run(0).values == [word(b"new page")]
    assert (world.read(old), word(world.read(new))) == (b"old page", 1)


def test_a_shared_page_whose_permission_shrank() -> None:
    world = World()
    page = world.page(b"12345678")
    realm = world.realm([*put(SHARED, 1), ask(3), *put(SHARED, 2)])
    realm.share(page)
    realm.run()
    realm.unshare()
    realm.share(page, attributes=6 << 2 | 1 << 6)
    run = realm.run(0)
    assert run.exit is not None
    assert run.exit.esr & 0x3F == 0x0F
    assert word(world.read(page)) == 1


@pytest.mark.parametrize("again", [load(SHARED), put(SHARED, 9)])
def test_a_shared_page_that_was_delegated_and_became_another_realm_s(again: list[int]) -> None:
    world = World()
    page = world.page(b"host")
    attacker = world.realm([*load(SHARED), ask(3), *again])
    attacker.share(page)
    assert attacker.run().values == [word(b"host".ljust(8, b"\0"))]
    world.ok(Rmi.GRANULE_DELEGATE, page)
    victim = world.realm([*put(OTHER, 0x5EC2E7), ask(3), *load(OTHER)])
    victim.provide(OTHER, page)
    victim.run()
    run = attacker.run(0)
    assert run.values == []
    assert run.abort is not None
    assert run.abort.fsc in (FSC_GPF, 0x10)
    assert victim.run(0).values == [0x5EC2E7]


def test_a_recycled_granule_shows_the_new_owner_s_contents_to_the_new_owner_only() -> None:
    """Realm A has the page in its TLB; the Host takes it and gives it to Realm B at the same IPA."""
    world = World()
    a = world.realm([*load(DATA), ask(3), *load(DATA), *put(DATA, 1)], {DATA: secret("a")})
    assert a.run().values == [word(secret("a"))]
    granule = a.reclaim(DATA)
    b = world.realm([*load(OTHER), *put(OTHER, 0xB), ask(3), *load(OTHER)])
    b.provide(OTHER, granule)
    assert b.run().values == [0]
    assert is_abort(a.run(0), DATA)
    assert b.run(0).values == [0xB]


def test_recycled_code_is_the_new_code() -> None:
    """A's code granule becomes B's at the same IPA, with other code, and both engines have translated it."""
    world = World()
    program = [*call(DATA), out(0), ask(3), *call(DATA), out(0)]
    a = world.realm(program, {DATA: function(0xA)})
    assert a.run().values == [0xA]
    granule = a.reclaim(DATA)
    world.release(granule)
    world.ok(Rmi.GRANULE_DELEGATE, granule)
    writer = [*code.mov(1, OTHER), *store_code(function(0xB)), code.IC_IALLU, code.ISB, *call(OTHER), out(0)]
    b = world.realm([*writer, ask(3), *call(OTHER), out(0)])
    b.provide(OTHER, granule)
    assert b.run().values == [0xB]
    assert is_abort(a.run(0), DATA, Ec.IABT_LOWER)
    assert b.run(0).values == [0xB]


def store_code(content: bytes) -> list[int]:
    """Copy a short function to where X1 points."""
    words = [word(content, n) for n in range(0, 16, 8)]
    return [w for n, value in enumerate(words) for w in (*code.mov(0, value), code.store(0, 1, 8 * n))]


def test_code_in_a_granule_that_was_wiped_and_given_back_is_gone() -> None:
    """The same granule at the same IPA of the same Realm: only its contents have changed."""
    world = World()
    program = [*call(DATA), out(0), ask(3), *become_ram(DATA), *call(DATA), out(0)]
    realm = world.realm(program, {DATA: function(7)})
    assert realm.run().values == [7]
    granule = realm.reclaim(DATA)
    realm.set_ripas(ripas_change(realm.run(0)))
    realm.provide(DATA, granule)
    run = realm.run()
    assert run.values == []
    assert run.abort is not None
    assert (run.abort.ec, run.abort.elr) == (Ec.UNKNOWN, DATA)


def test_an_engine_that_is_used_again_keeps_no_code() -> None:
    """Realm B has other code at the addresses where destroyed Realm A had its own, in the same granules."""
    world = World()
    a = world.realm([*call(DATA), out(0)], {DATA: function(0xA)})
    assert a.run().values == [0xA]
    granules = dict(a.data)
    a.destroy()
    for granule in granules.values():
        world.ok(Rmi.GRANULE_DELEGATE, granule)
    b = world.realm([*load(OTHER), *call(DATA), out(0)], {DATA: function(0xB)})
    b.provide(OTHER, granules[DATA])
    assert b.run().values == [0, 0xB]


def test_a_page_that_became_empty_by_the_realms_own_wish() -> None:
    world = World()
    to_empty = code.smc(Rsi.IPA_STATE_SET, DATA, DATA + GRANULE_SIZE, Ripas.EMPTY, 0)
    realm = world.realm([*load(DATA), *to_empty, *load(DATA)], {DATA: secret("a")})
    run = realm.run()
    assert run.values == [word(secret("a"))]
    realm.set_ripas(ripas_change(run))
    run = realm.run()
    assert run.values == []
    assert run.abort is not None
    assert run.abort.external


def test_a_table_under_use_is_destroyed() -> None:
    """The mapping of a shared page goes with the table that held it."""
    world = World()
    page = world.page(b"12345678")
    realm = world.realm([*load(SHARED), ask(3), *load(SHARED)])
    realm.share(page)
    realm.run()
    world.release(world.ok(Rmi.RTT_DESTROY, realm.rd, SHARED, 3).x1)
    run = realm.run(0)
    assert run.values == []
    assert run.exit is not None
    assert fault_ipa(run.exit) == SHARED
    assert run.exit.esr & 0x3F == FSC_TRANSLATION + 2


def test_a_page_taken_while_another_pe_has_it_cached() -> None:
    """The Realm ran on PE 0; the Host destroys the page from PE 1."""
    world = World(pes=2)
    realm = world.realm([*load(DATA), ask(3), *load(DATA)], {DATA: secret("a")})
    realm.run()
    other = RmiClient(world.stack.host_port(1))
    assert other.call(Rmi.DATA_DESTROY, realm.rd, DATA).success
    assert is_abort(realm.run(0), DATA)


def test_vcpus_of_one_realm_lose_a_page_together() -> None:
    """Both RECs, each with its own engine, have the page cached."""
    world = World()
    program = [*load(DATA), ask(3), *load(DATA)]
    realm = world.realm(program, {DATA: secret("a")}, recs=2)
    for rec in (0, 1):
        record = realm.enter(rec=rec)
        assert record.gprs[0] == word(secret("a"))
        realm.enter(flags=1, rec=rec)
    realm.reclaim(DATA)
    for rec in (1, 0):
        assert is_abort(Run(exit=realm.enter(flags=1, rec=rec)), DATA)
