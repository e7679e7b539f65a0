"""Random lives of Realms against the invariants of RTTs and granules (spec: rtt section 13).

After every command the tables are read from memory, as the hardware would walk them, and compared with what the RMM
believes of its granules.
"""

import struct
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from realmkit.arch.pas import Gpi, Pas
from realmkit.arch.rmi import Ripas, Rmi
from realmkit.arch.vmsa import entry_size
from realmkit.rmm import rtt_entry
from realmkit.rmm.rtt import walk
from realmkit.rmm.rtt_entry import Hipas
from realmkit.rmm.state import GranuleState, RealmState, RipasRequest
from tests.rmm.fake import RAM_BASE, Bench

MIB2 = 1 << 21
WIDTH, START, NUMBER = 32, 2, 4
HALF = 1 << WIDTH - 1
PAGES = st.sampled_from([0, 0x1000, 0x2000, 0x1F_F000, MIB2, MIB2 + 0x1000, 2 * MIB2, HALF - 0x1000])
IPAS = st.one_of(PAGES, PAGES.map(lambda ipa: ipa + HALF), st.sampled_from([0x800, 1 << WIDTH, (1 << 64) - 0x1000]))
LEVELS = st.sampled_from([1, 2, 3, 3, 3, 4])
SLOTS = st.integers(0, 11)
TOPS = st.sampled_from([0x1000, 0x3000, 0x20_0000, 0x40_0000, HALF, 0x1800])


class Lives(RuleBasedStateMachine):
    """Two Realms and twelve granules that go through all their states."""

    @initialize(state=st.sampled_from([RealmState.NEW, RealmState.ACTIVE]))
    def begin(self, state: RealmState) -> None:
        self.bench = Bench()
        self.realms = [self.bench.realm(WIDTH, START, NUMBER, vmid=vmid) for vmid in (1, 2)]
        self.bench.rmm.realms[self.realms[0]].state = state
        self.recs = [self.bench.rec(rd) for rd in self.realms]
        self.pool = [self.bench.ns(b"host") for _ in range(12)]
        self.source = self.bench.ns(b"source" * 100)
        self.rims = self._rims()

    def call(self, fid: Rmi, *arguments: int) -> None:
        """One call: a refused one changes nothing, and the machine goes on."""
        before: Any = self.bench.snapshot()
        result = self.bench.call(fid, *arguments)
        if result.x0:
            assert self.bench.snapshot() == before
            assert result.label

    @rule(slot=SLOTS)
    def delegate(self, slot: int) -> None:
        self.call(Rmi.GRANULE_DELEGATE, self.pool[slot])

    @rule(slot=SLOTS)
    def undelegate(self, slot: int) -> None:
        self.call(Rmi.GRANULE_UNDELEGATE, self.pool[slot])

    @rule(which=st.integers(0, 1), slot=SLOTS, ipa=IPAS, level=LEVELS)
    def create_table(self, which: int, slot: int, ipa: int, level: int) -> None:
        self.call(Rmi.GRANULE_DELEGATE, self.pool[slot])
        self.call(Rmi.RTT_CREATE, self.realms[which], self.pool[slot], ipa & -MIB2, level)

    @rule(which=st.integers(0, 1), ipa=IPAS, level=LEVELS)
    def destroy_table(self, which: int, ipa: int, level: int) -> None:
        self.call(Rmi.RTT_DESTROY, self.realms[which], ipa & -MIB2, level)

    @rule(which=st.integers(0, 1), ipa=IPAS, level=LEVELS)
    def fold(self, which: int, ipa: int, level: int) -> None:
        self.call(Rmi.RTT_FOLD, self.realms[which], ipa & -MIB2, level)

    @rule(which=st.integers(0, 1), slot=SLOTS, ipa=IPAS, flags=st.integers(0, 2))
    def load(self, which: int, slot: int, ipa: int, flags: int) -> None:
        self.call(Rmi.GRANULE_DELEGATE, self.pool[slot])
        self.call(Rmi.DATA_CREATE, self.realms[which], self.pool[slot], ipa, self.source, flags)

    @rule(which=st.integers(0, 1), slot=SLOTS, ipa=IPAS)
    def populate(self, which: int, slot: int, ipa: int) -> None:
        self.call(Rmi.DATA_CREATE_UNKNOWN, self.realms[which], self.pool[slot], ipa)

    @rule(which=st.integers(0, 1), ipa=IPAS)
    def depopulate(self, which: int, ipa: int) -> None:
        self.call(Rmi.DATA_DESTROY, self.realms[which], ipa)

    @rule(which=st.integers(0, 1), ipa=IPAS, level=LEVELS, attributes=st.sampled_from([0xD8, 0x58, 0x94, 0x90, 0xDC]))
    def map_unprotected(self, which: int, ipa: int, level: int, attributes: int) -> None:
        self.call(Rmi.RTT_MAP_UNPROTECTED, self.realms[which], ipa, level, RAM_BASE | attributes)

    @rule(which=st.integers(0, 1), ipa=IPAS, level=LEVELS)
    def unmap_unprotected(self, which: int, ipa: int, level: int) -> None:
        self.call(Rmi.RTT_UNMAP_UNPROTECTED, self.realms[which], ipa, level)

    @rule(which=st.integers(0, 1), base=IPAS, size=TOPS)
    def init_ripas(self, which: int, base: int, size: int) -> None:
        self.call(Rmi.RTT_INIT_RIPAS, self.realms[which], base, min(base + size, (1 << 64) - 1))

    @rule(which=st.integers(0, 1), owner=st.integers(0, 1), base=PAGES, size=TOPS, value=st.sampled_from(Ripas))
    def set_ripas(self, which: int, owner: int, base: int, size: int, value: Ripas) -> None:
        if value is not Ripas.DESTROYED:
            top = min(base + size, HALF) & -0x1000
            self.bench.rmm.recs[self.recs[owner]].ripas = RipasRequest(
                base, top, value, change_destroyed=size != 0x3000
            )
        self.call(Rmi.RTT_SET_RIPAS, self.realms[which], self.recs[owner], base, base + size)

    @rule(which=st.integers(0, 1))
    def activate(self, which: int) -> None:
        self.call(Rmi.REALM_ACTIVATE, self.realms[which])

    @rule(which=st.integers(0, 1))
    def destroy(self, which: int) -> None:
        """Refused: the Realm has a REC."""
        assert self.bench.call(Rmi.REALM_DESTROY, self.realms[which]).code == (2, 0)

    @rule(which=st.integers(0, 1), ipa=IPAS)
    def walk_again(self, which: int, ipa: int) -> None:
        """A walk that remembers the last table finds what a walk without memory finds."""
        if ipa < 1 << WIDTH:
            realm = self.bench.rmm.realms[self.realms[which]]
            remembered = walk(self.bench.port, realm, ipa)
            realm.page_table_block = -1
            assert walk(self.bench.port, realm, ipa) == remembered

    def _rims(self) -> list[tuple[RealmState, bytes]]:
        subjects = (self.bench.rmm.realms[rd] for rd in self.realms)
        return [(subject.state, subject.measurements[0]) for subject in subjects]

    @invariant()
    def the_rim_changes_only_in_state_new(self) -> None:
        now = self._rims()
        for (state_before, rim_before), (_, rim) in zip(self.rims, now, strict=True):
            assert state_before is RealmState.NEW or rim == rim_before
        self.rims = now

    @invariant()
    def granules_and_tables_agree(self) -> None:
        rmm, bus = self.bench.rmm, self.bench.bus
        reached: dict[GranuleState, list[int]] = {GranuleState.RTT: [], GranuleState.DATA: []}
        for rd in self.realms:
            realm = rmm.realms[rd]
            for number in range(NUMBER):
                self._table(realm.rtt_base + number * 4096, START, number << 30, reached)
        for state, granules in reached.items():
            assert sorted(granules) == rmm.granules.in_state(state), "each is reached exactly once, none is lost"
        assert sorted(rmm.live_entries) == sorted(reached[GranuleState.RTT])
        for state in GranuleState:
            if state is not GranuleState.UNDELEGATED:
                assert all(bus.gpi(pa) is Gpi.REALM for pa in rmm.granules.in_state(state))
        for pa in rmm.granules.in_state(GranuleState.DELEGATED):
            assert not any(bus.page(Pas.REALM, pa, False)), "a DELEGATED granule is wiped"
        for pa in self.pool:
            if rmm.granules.state(pa) is GranuleState.UNDELEGATED:
                assert bus.gpi(pa) is Gpi.NS

    def _table(self, pa: int, level: int, ipa: int, reached: dict[GranuleState, list[int]]) -> None:
        """Collect what the table of ``ipa`` leads to; check the halves, and that its live entries are counted."""
        reached[GranuleState.RTT].append(pa)
        live = 0
        page = bytes(self.bench.bus.page(Pas.REALM, pa, False))
        for slot, (raw,) in enumerate(struct.iter_unpack("<Q", page)):
            base = ipa + slot * entry_size(level)
            state = rtt_entry.hipas(raw, level)
            if state is Hipas.TABLE:
                self._table(rtt_entry.address(raw), level + 1, base, reached)
                live += 1
                continue
            assert (state in (Hipas.UNASSIGNED_NS, Hipas.ASSIGNED_NS)) == (base >= HALF)
            if state is Hipas.ASSIGNED:
                reached[GranuleState.DATA].append(rtt_entry.address(raw))
                assert level == 3, "this test has no 512 contiguous pages"
                live += 1
        assert self.bench.rmm.live_entries[pa] == live


Lives.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestLives = Lives.TestCase
