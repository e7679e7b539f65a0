"""The Host takes pages of a running Realm: it may, and the Realm always notices."""

import pytest

from realmkit.arch.events import RttChange
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ENTER_RIPAS_REJECT, ExitReason, Ripas, Rmi, RttEntryState
from realmkit.arch.rsi import IPA_STATE_CHANGE_DESTROYED, RESPONSE_ACCEPT, RESPONSE_REJECT, Rsi, RsiStatus
from tests.isolation import code
from tests.isolation.kit import Guest, World
from tests.isolation.programs import DATA, ask, load, out, put, secret, word

LOST = 0x6000


def state_get(ipa: int) -> list[int]:
    """Report the RIPAS of a page as the Realm is told."""
    return [*code.smc(Rsi.IPA_STATE_GET, ipa, ipa + GRANULE_SIZE), out(0), out(2)]


def state_set(ipa: int, flags: int) -> list[int]:
    """RSI_IPA_STATE_SET to RAM: report status, progress and response."""
    return [*code.smc(Rsi.IPA_STATE_SET, ipa, ipa + GRANULE_SIZE, Ripas.RAM, flags), out(0), out(1), out(2)]


def test_the_realm_is_told() -> None:
    world = World()
    realm = world.realm([*state_get(DATA), ask(3), *state_get(DATA), *load(DATA)], {DATA: secret("a")})
    assert realm.run().values == [RsiStatus.SUCCESS, Ripas.RAM]
    with world.events() as seen:
        granule = realm.reclaim(DATA)
    changes = [(e.ipa, e.level, e.before, e.after) for e in seen if isinstance(e, RttChange)]
    assert len(changes) == 1
    assert changes[0][:2] == (DATA, 3)
    assert "DESTROYED" in changes[0][3]
    assert realm.entry(DATA)[2:5:2] == (RttEntryState.UNASSIGNED, Ripas.DESTROYED)
    world.release(granule)
    run = realm.run(0)
    assert run.values == [RsiStatus.SUCCESS, Ripas.DESTROYED]
    assert run.exit is not None
    assert run.exit.exit_reason == ExitReason.SYNC


def test_a_page_of_the_host_s_choice_never_appears_instead() -> None:
    """Whatever the Host tries, the IPA of a lost page gives the Realm no data of the Host's."""
    world = World()
    realm = world.realm([ask(3), *load(DATA)], {DATA: secret("a")})
    realm.run()
    realm.reclaim(DATA)
    forged = world.page(secret("forged"))
    granule = world.delegated()
    assert world.refused(Rmi.DATA_CREATE, realm.rd, granule, DATA, forged, 0) == "realm_state"
    assert world.refused(Rmi.RTT_MAP_UNPROTECTED, realm.rd, DATA, 3, forged | 6 << 2 | 3 << 6) == "ipa_bound"
    assert world.refused(Rmi.RTT_INIT_RIPAS, realm.rd, DATA, DATA + GRANULE_SIZE) == "realm_state"
    assert world.refused(Rmi.RTT_SET_RIPAS, realm.rd, realm.recs[0], DATA, DATA + GRANULE_SIZE)
    realm.provide(DATA, granule)
    assert realm.entry(DATA)[4] == Ripas.DESTROYED
    run = realm.run(0)
    assert run.values == []
    assert run.exit is not None
    assert run.exit.exit_reason == ExitReason.SYNC


def test_destroyed_turns_into_ram_only_if_the_realm_says_so() -> None:
    world = World()
    program = [ask(3), *state_set(DATA, 0), ask(3), *state_set(DATA, IPA_STATE_CHANGE_DESTROYED), *load(DATA)]
    realm = world.realm(program, {DATA: secret("a")})
    realm.run()
    realm.reclaim(DATA)

    record = realm.run(0).exit
    assert record is not None
    assert record.exit_reason == ExitReason.RIPAS_CHANGE
    assert world.refused(Rmi.RTT_SET_RIPAS, realm.rd, realm.recs[0], DATA, DATA + GRANULE_SIZE)
    run = realm.run(flags=ENTER_RIPAS_REJECT)
    assert run.values == [RsiStatus.SUCCESS, DATA, RESPONSE_REJECT]
    assert realm.entry(DATA)[4] == Ripas.DESTROYED

    record = realm.run(0).exit
    assert record is not None
    realm.set_ripas(record)
    realm.provide(DATA)
    assert realm.run().values == [RsiStatus.SUCCESS, DATA + GRANULE_SIZE, RESPONSE_ACCEPT, 0]


def test_a_host_that_claims_a_change_it_has_not_made_is_found_out() -> None:
    world = World()
    realm = world.realm([ask(3), *state_set(DATA, IPA_STATE_CHANGE_DESTROYED), *state_get(DATA)], {DATA: secret("a")})
    realm.run()
    realm.reclaim(DATA)
    assert realm.run(0).exit is not None
    assert realm.run().values == [RsiStatus.SUCCESS, DATA, RESPONSE_ACCEPT, RsiStatus.SUCCESS, Ripas.DESTROYED]


def test_a_destroyed_table_destroys_what_it_held() -> None:
    world = World()
    realm = world.realm([*state_get(LOST), ask(3), *state_get(LOST), *load(LOST)], {DATA: secret("a")})
    assert realm.run().values == [0, Ripas.RAM]
    for ipa in sorted(realm.data):
        realm.reclaim(ipa)
    world.release(world.ok(Rmi.RTT_DESTROY, realm.rd, 0, 3).x1)
    record = realm.run(0).exit
    assert record is not None
    assert record.exit_reason == ExitReason.SYNC
    assert realm.entry(0)[1:3] == (2, RttEntryState.UNASSIGNED)
    assert realm.entry(0)[4] == Ripas.DESTROYED


@pytest.mark.parametrize("step", ["fold", "unfold"])
def test_reshaping_tables_changes_nothing_that_the_realm_sees(step: str) -> None:
    """A 2 MB block of the Realm's is made of 512 pages, and split again."""
    block = 0x20_0000
    world = World()
    realm = world.realm([*put(block, 1), *load(block + 0x5008), ask(3), *load(block), *load(block + 0x5008)])
    realm.table(block, 3)
    base = (world.page() + block) & -block
    world._next = base + block
    for offset in range(0, block, GRANULE_SIZE):
        world.ok(Rmi.GRANULE_DELEGATE, base + offset)
        realm.provide(block + offset, base + offset)
    realm.data = {ipa: pa for ipa, pa in realm.data.items() if ipa < block}
    assert realm.entry(block)[4] == Ripas.EMPTY
    run = realm.run()
    assert run.abort is not None
    assert run.abort.external
    world.ok(Rmi.RTT_FOLD, realm.rd, block, 3)
    if step == "unfold":
        realm.table(block, 3)
    assert realm.entry(block)[4] == Ripas.EMPTY


def test_what_the_realm_wrote_is_wiped_when_it_is_taken() -> None:
    world = World()
    realm = world.realm([*put(DATA, word(b"password")), ask(3)])
    realm.run()
    assert world.chip(realm.data[DATA])[:8] == b"password"
    granule = realm.reclaim(DATA)
    assert not any(world.chip(granule))
    world.release(granule)


def lose(realm: Guest, ipa: int) -> None:
    """Take a page and give the granule back to the Host."""
    realm.world.release(realm.reclaim(ipa))


def test_a_realm_that_lost_its_code_leaves_for_the_host_for_ever() -> None:
    world = World()
    realm = world.realm([ask(3), *load(DATA)])
    realm.run()
    lose(realm, 0)
    for _ in range(3):
        record = realm.enter()
        assert record.exit_reason == ExitReason.SYNC
        assert record.hpfar == 0
        assert record.gprs == (0,) * 31
    realm.destroy()
