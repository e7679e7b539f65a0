"""Transitions of a Protected leaf, and RIPAS changes over ranges (spec: rtt sections 5.2, 8, 12)."""

import pytest

from realmkit.arch.rmi import Ripas, Rmi
from realmkit.rmm.commands_ripas import uniform_ripas
from realmkit.rmm.state import RipasRequest
from tests.rmm.fake import Bench
from tests.rmm.test_rtt import block

E, R, D = Ripas.EMPTY, Ripas.RAM, Ripas.DESTROYED
UNASSIGNED, ASSIGNED = 0, 1
IPA = 0x1000
MIB2, GIB = 1 << 21, 1 << 30

State = tuple[int, Ripas]


class Leaf(Bench):
    """A Realm in state NEW whose page at IPA is brought into a given state by commands alone."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.rd = self.realm()
        self.rec_pa = self.rec(self.rd)
        self.tables(self.rd, IPA)
        hipas, ripas = state
        if ripas is D:
            self.ok(Rmi.RTT_DESTROY, self.rd, 0, 3)
            self.table(self.rd, 0, 3)
        elif ripas is R:
            self.ok(Rmi.RTT_INIT_RIPAS, self.rd, IPA, IPA + 0x1000)
        if hipas == ASSIGNED:
            self.page(self.rd, IPA)
        assert self.state() == state

    def state(self) -> State:
        entry = self.ok(Rmi.RTT_READ_ENTRY, self.rd, IPA, 3)
        return entry[1], Ripas(entry[3])

    def set_ripas(self, value: Ripas, destroyed: bool) -> tuple[int, int]:
        self.rmm.recs[self.rec_pa].ripas = RipasRequest(IPA, IPA + 0x1000, value, destroyed)
        return self.call(Rmi.RTT_SET_RIPAS, self.rd, self.rec_pa, IPA, IPA + 0x1000).code

    def do(self, action: str) -> tuple[int, int]:
        rd = self.rd
        if action == "DATA_CREATE":
            return self.call(Rmi.DATA_CREATE, rd, self.delegated(), IPA, self.ns(b"x"), 1).code
        if action == "DATA_CREATE_UNKNOWN":
            return self.call(Rmi.DATA_CREATE_UNKNOWN, rd, self.delegated(), IPA).code
        if action == "DATA_DESTROY":
            return self.call(Rmi.DATA_DESTROY, rd, IPA).code
        if action == "INIT_RIPAS":
            return self.call(Rmi.RTT_INIT_RIPAS, rd, IPA, IPA + 0x1000).code
        _, value, permission = action.split()
        return self.set_ripas(Ripas[value], permission == "permitted")


FAILS = None
TRANSITIONS: dict[str, dict[State, State | None]] = {
    "DATA_CREATE": {
        **{(UNASSIGNED, r): (ASSIGNED, R) for r in Ripas},
        **{(ASSIGNED, r): FAILS for r in Ripas},
    },
    "DATA_CREATE_UNKNOWN": {
        **{(UNASSIGNED, r): (ASSIGNED, r) for r in Ripas},
        **{(ASSIGNED, r): FAILS for r in Ripas},
    },
    "DATA_DESTROY": {
        **{(UNASSIGNED, r): FAILS for r in Ripas},
        (ASSIGNED, E): (UNASSIGNED, E),
        (ASSIGNED, R): (UNASSIGNED, D),
        (ASSIGNED, D): (UNASSIGNED, D),
    },
    "INIT_RIPAS": {
        (UNASSIGNED, E): (UNASSIGNED, R),
        (UNASSIGNED, R): (UNASSIGNED, R),
        (UNASSIGNED, D): FAILS,
        **{(ASSIGNED, r): FAILS for r in Ripas},
    },
    **{
        f"SET_RIPAS {value.name} {permission}": {
            (hipas, r): FAILS if r is D and permission == "denied" else (hipas, value)
            for hipas in (UNASSIGNED, ASSIGNED)
            for r in Ripas
        }
        for value in (R, E)
        for permission in ("permitted", "denied")
    },
}


@pytest.mark.parametrize(
    ("action", "before", "after"), [(a, b, c) for a, rows in TRANSITIONS.items() for b, c in rows.items()]
)
def test_transition_of_a_leaf(action: str, before: State, after: State | None) -> None:
    """attacks 23: DATA_CREATE_UNKNOWN leaves the RIPAS alone, DATA_DESTROY knows ASSIGNED, DESTROYED."""
    leaf = Leaf(before)
    code = leaf.do(action)
    assert code == ((0, 0) if after else (4, 3))
    assert leaf.state() == (after or before)


@pytest.mark.parametrize("ripas", Ripas)
def test_destroying_a_table_destroys_what_it_said(ripas: Ripas) -> None:
    leaf = Leaf((UNASSIGNED, ripas))
    leaf.ok(Rmi.RTT_DESTROY, leaf.rd, 0, 3)
    assert leaf.ok(Rmi.RTT_READ_ENTRY, leaf.rd, 0, 2) == (2, 0, 0, D)


def test_memory_survives_ram_to_empty_and_back() -> None:
    leaf = Leaf((ASSIGNED, R))
    data = leaf.ok(Rmi.RTT_READ_ENTRY, leaf.rd, IPA, 3)[2]
    leaf.bus.pages[data][:5] = b"hello"
    leaf.set_ripas(E, True)
    assert leaf.ok(Rmi.RTT_READ_ENTRY, leaf.rd, IPA, 3) == (3, 1, data, 0)
    leaf.set_ripas(R, True)
    assert bytes(leaf.bus.pages[data][:5]) == b"hello"


def test_progress_of_a_change_stops_at_tables_and_destroyed_pages() -> None:
    bench = Bench()
    rd = bench.realm()
    rec = bench.rec(rd)
    bench.tables(rd, 0)
    bench.table(rd, 3 * MIB2, 3)
    bench.rmm.recs[rec].ripas = request = RipasRequest(MIB2, GIB, R, change_destroyed=False)
    assert bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, MIB2, GIB)[0] == 3 * MIB2
    assert request.addr == 3 * MIB2
    assert bench.call(Rmi.RTT_SET_RIPAS, rd, rec, MIB2, GIB).label == "base_bound"
    bench.ok(Rmi.RTT_INIT_RIPAS, rd, 3 * MIB2 + 0x4000, 3 * MIB2 + 0x5000)
    bench.page(rd, 3 * MIB2 + 0x4000)
    bench.ok(Rmi.DATA_DESTROY, rd, 3 * MIB2 + 0x4000)
    assert bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, 3 * MIB2, GIB)[0] == 3 * MIB2 + 0x4000
    assert bench.call(Rmi.RTT_SET_RIPAS, rd, rec, 3 * MIB2 + 0x4000, GIB).code == (4, 3)
    request.change_destroyed = True
    assert bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, 3 * MIB2 + 0x4000, GIB)[0] == 4 * MIB2
    assert bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, 4 * MIB2, GIB - MIB2)[0] == GIB - MIB2
    assert request.addr == GIB - MIB2


def test_a_top_inside_an_entry_is_rounded_down() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.table(rd, 0, 2)
    assert bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0, 3 * MIB2 + 0x1000)[0] == 3 * MIB2


def test_a_change_of_a_block_changes_the_whole_block() -> None:
    bench = Bench()
    rd = bench.realm()
    rec = bench.rec(rd)
    data = block(bench, rd, MIB2)
    bench.ok(Rmi.RTT_FOLD, rd, MIB2, 3)
    bench.rmm.recs[rec].ripas = RipasRequest(MIB2, 2 * MIB2, R, change_destroyed=False)
    assert bench.ok(Rmi.RTT_SET_RIPAS, rd, rec, MIB2, 2 * MIB2)[0] == 2 * MIB2
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, MIB2, 3) == (2, 1, data, 1)


def test_the_last_entry_of_the_protected_half() -> None:
    bench = Bench()
    rd = bench.realm()
    half = 1 << 38
    assert bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0, half)[0] == half
    assert bench.ok(Rmi.RTT_READ_ENTRY, rd, half, 1) == (1, 0, 0, 0)


def test_uniform_ripas_reports_runs_inside_one_table() -> None:
    bench = Bench()
    rd = bench.realm()
    subject = bench.rmm.realms[rd]
    bench.tables(rd, 0)
    bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0x2000, 0x5000)

    def run(base: int, top: int) -> tuple[int, Ripas]:
        return uniform_ripas(bench.port, subject, base, top)

    assert run(0, GIB) == (0x2000, E)
    assert run(0, 0x1000) == (0x1000, E)
    assert run(0x2000, GIB) == (0x5000, R)
    assert run(0x4000, 0x5000) == (0x5000, R)
    assert run(0x5000, GIB) == (MIB2, E)
    assert run(MIB2 + 0x1000, MIB2 + 0x3000) == (MIB2 + 0x3000, E)
    assert run(MIB2 + 0x1000, 2 * GIB) == (GIB, E)
    assert run(GIB, 1 << 38) == (1 << 38, E)
