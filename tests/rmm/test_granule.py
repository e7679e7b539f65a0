"""Granule states: the only transitions, the GPT that goes with them, and wiping (spec: rmi section 2)."""

import pytest

from realmkit.arch.pas import GRANULE_SIZE, Gpi, Pas
from realmkit.arch.rmi import Rmi
from realmkit.machine.port import GranuleProtectionFault
from realmkit.rmm.state import GranuleState
from tests.rmm.fake import RAM_BASE, RAM_SIZE, Bench

SECRET = b"secret of one owner of this page" * 128


def test_only_listed_transitions_exist() -> None:
    """From each state, GRANULE_DELEGATE and UNDELEGATE do what the table says and nothing else."""
    for state in GranuleState:
        for fid in (Rmi.GRANULE_DELEGATE, Rmi.GRANULE_UNDELEGATE):
            bench = Bench()
            pa = bench.ns() if state is GranuleState.UNDELEGATED else bench.delegated()
            if state not in (GranuleState.UNDELEGATED, GranuleState.DELEGATED):
                bench.rmm.granules.take(bench.port, pa, state)
            before = bench.snapshot()
            result = bench.call(fid, pa)
            permitted = {Rmi.GRANULE_DELEGATE: GranuleState.UNDELEGATED, Rmi.GRANULE_UNDELEGATE: GranuleState.DELEGATED}
            if state is permitted[fid]:
                after = permitted[Rmi.GRANULE_UNDELEGATE if fid == Rmi.GRANULE_DELEGATE else Rmi.GRANULE_DELEGATE]
                assert (result.x0, bench.rmm.granules.state(pa)) == (0, after)
                assert bench.bus.gpi(pa) is (Gpi.REALM if after is GranuleState.DELEGATED else Gpi.NS)
            else:
                assert (result.code, result.label) == ((1, 0), "gran_state")
                assert bench.snapshot() == before


@pytest.mark.parametrize("pa", [RAM_BASE, RAM_BASE + RAM_SIZE - GRANULE_SIZE])
def test_first_and_last_granule_are_delegable(pa: int) -> None:
    bench = Bench()
    bench.ok(Rmi.GRANULE_DELEGATE, pa)
    bench.ok(Rmi.GRANULE_UNDELEGATE, pa)


def test_what_the_host_left_is_gone_when_a_realm_gets_the_granule() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    data = bench.ns(SECRET)
    bench.ok(Rmi.GRANULE_DELEGATE, data)
    bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, data, 0)
    assert bench.bus.read(Pas.REALM, data, GRANULE_SIZE) == bytes(GRANULE_SIZE)


def test_what_a_realm_left_is_gone_when_the_host_gets_the_granule_back() -> None:
    """attacks 7: DATA -> DELEGATED -> UNDELEGATED."""
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    data = bench.page(rd, 0)
    bench.bus.write(Pas.REALM, data, SECRET)
    assert bench.ok(Rmi.DATA_DESTROY, rd, 0)[0] == data
    with pytest.raises(GranuleProtectionFault):
        bench.bus.read(Pas.NS, data, GRANULE_SIZE)
    bench.ok(Rmi.GRANULE_UNDELEGATE, data)
    assert bench.bus.read(Pas.NS, data, GRANULE_SIZE) == bytes(GRANULE_SIZE)


def test_what_one_realm_left_is_gone_when_another_gets_the_granule() -> None:
    bench = Bench()
    first, second = bench.realm(vmid=1), bench.realm(vmid=2)
    bench.tables(first, 0)
    bench.tables(second, 0)
    data = bench.page(first, 0)
    bench.bus.write(Pas.REALM, data, SECRET)
    bench.ok(Rmi.DATA_DESTROY, first, 0)
    bench.ok(Rmi.DATA_CREATE_UNKNOWN, second, data, 0)
    assert bench.bus.read(Pas.REALM, data, GRANULE_SIZE) == bytes(GRANULE_SIZE)


def test_every_object_leaves_its_granules_wiped() -> None:
    bench = Bench()
    rd = bench.realm(44, 0)
    bench.tables(rd, 0)
    bench.tables(rd, 1 << 43)
    bench.page(rd, 0x1000)
    bench.ok(Rmi.DATA_DESTROY, rd, 0x1000)
    for level in (3, 2, 1):
        bench.ok(Rmi.RTT_DESTROY, rd, 0, level)
        bench.ok(Rmi.RTT_FOLD, rd, 1 << 43, level)
    bench.ok(Rmi.REALM_DESTROY, rd)
    for pa in bench.rmm.granules.in_state(GranuleState.DELEGATED):
        assert bench.bus.read(Pas.REALM, pa, GRANULE_SIZE) == bytes(GRANULE_SIZE)
        bench.ok(Rmi.GRANULE_UNDELEGATE, pa)
    assert not any(bench.rmm.granules.in_state(state) for state in GranuleState)
    assert Gpi.REALM not in bench.bus.gpt.values()


def test_the_monitor_may_refuse_a_delegation() -> None:
    """attacks 34, 35: a refusal of EL3 leaves the granule as it was."""
    bench = Bench()
    pa = bench.ns(SECRET)
    bench.bus.gpt[pa] = Gpi.SECURE
    assert bench.call(Rmi.GRANULE_DELEGATE, pa).label == "gran_gpt"
    assert bench.rmm.granules.state(pa) is GranuleState.UNDELEGATED
    assert bytes(bench.bus.pages[pa]) == SECRET


def test_the_source_of_a_page_is_read_once() -> None:
    """A Host that changes the source after the copy (attacks: TOCTOU) changes neither content nor measurement."""
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    source, data = bench.ns(SECRET), bench.delegated()
    reads: list[tuple[Pas, int]] = []
    read = bench.bus.read

    def spy(pas: Pas, pa: int, size: int) -> bytes:
        reads.append((pas, pa))
        return read(pas, pa, size)

    bench.bus.read = spy  # type: ignore[method-assign]
    bench.ok(Rmi.DATA_CREATE, rd, data, 0, source, 1)
    assert reads.count((Pas.NS, source)) == 1
