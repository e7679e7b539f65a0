import pytest

from realmkit.arch.pas import Gpi, Pas
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.gpt import (
    GPCCR_EL3,
    GPTBR_EL3,
    GpcFault,
    GpcFaultKind,
    level0_block,
    level0_table,
    level1_granules,
)
from realmkit.machine.memory import PhysicalMemory
from realmkit.machine.platform import AddressRange

L0 = 0x0
L1 = 0x20_0000
RAM = 2 << 30
ENABLED = GPCCR_EL3.make(PPS=5, IRGN=1, ORGN=1, SH=3, GPC=1)


@pytest.fixture
def memory() -> PhysicalMemory:
    memory = PhysicalMemory([AddressRange(0, 4 << 20), AddressRange(RAM, 1 << 20)])
    memory.write64(L0, level0_block(Gpi.ROOT))
    memory.write64(L0 + 16, level0_table(L1))
    memory.write64(L1, level1_granules(Gpi.NS))
    return memory


@pytest.fixture
def gpc(memory: PhysicalMemory) -> GranuleProtection:
    gpc = GranuleProtection(memory)
    gpc.configure(ENABLED, GPTBR_EL3.make(BADDR=L0 >> 12))
    return gpc


def test_nothing_is_checked_after_reset(memory: PhysicalMemory) -> None:
    gpc = GranuleProtection(memory)
    for pas in Pas:
        assert gpc.allowed(pas, RAM)
        assert gpc.check(pas, 1 << 50) is None
    assert gpc.gpi(RAM) is None


def test_the_tables_decide(gpc: GranuleProtection) -> None:
    for _ in range(2):  # the second time from the cache
        assert gpc.allowed(Pas.NS, RAM + 0xFFF8)
        assert not gpc.allowed(Pas.REALM, RAM)
        assert gpc.check(Pas.NS, RAM) is None
        assert gpc.check(Pas.SECURE, RAM) == GpcFault(GpcFaultKind.PROTECTION, 1, Gpi.NS)
        assert gpc.check(Pas.NS, 0x1000) == GpcFault(GpcFaultKind.PROTECTION, 0, Gpi.ROOT)
        assert gpc.check(Pas.ROOT, 0x1000) is None
        assert gpc.check(Pas.NS, 1 << 30) == GpcFault(GpcFaultKind.WALK, 0)
    assert gpc.gpi(RAM) is Gpi.NS
    assert gpc.gpi(1 << 30) is None
    assert gpc.gpi(1 << 50) is None


def test_beyond_the_protected_size(gpc: GranuleProtection) -> None:
    assert gpc.allowed(Pas.NS, 1 << 48)
    assert gpc.check(Pas.REALM, 1 << 48) == GpcFault(GpcFaultKind.PROTECTION, 0)


def test_a_change_is_seen_after_invalidation_of_its_granule(gpc: GranuleProtection, memory: PhysicalMemory) -> None:
    neighbour = RAM + 0x1000
    assert gpc.allowed(Pas.NS, RAM)
    assert gpc.allowed(Pas.NS, neighbour)
    memory.write64(L1, level1_granules(Gpi.REALM))
    assert gpc.allowed(Pas.NS, RAM), "the cache holds the old entry, as a TLB does"
    assert gpc.gpi(RAM) is Gpi.REALM
    gpc.invalidate(RAM, 4096)
    assert not gpc.allowed(Pas.NS, RAM)
    assert gpc.allowed(Pas.REALM, RAM)
    assert gpc.allowed(Pas.NS, neighbour)
    gpc.invalidate(RAM, 1 << 30)
    assert not gpc.allowed(Pas.NS, neighbour)


def test_a_refusal_is_cached_like_a_permission(gpc: GranuleProtection, memory: PhysicalMemory) -> None:
    assert not gpc.allowed(Pas.REALM, RAM)
    memory.write64(L1, level1_granules(Gpi.ANY))
    assert not gpc.allowed(Pas.REALM, RAM)
    gpc.invalidate_all()
    assert gpc.allowed(Pas.REALM, RAM)


def test_listeners_hear_of_every_invalidation(gpc: GranuleProtection) -> None:
    heard: list[tuple[int, int]] = []
    gpc.listeners.append(lambda pa, size: heard.append((pa, size)))
    gpc.invalidate(RAM, 4096)
    gpc.invalidate(RAM, 2 << 20)
    gpc.invalidate_all()
    gpc.configure(0, 0)
    assert heard == [(RAM, 4096), (RAM, 2 << 20), (0, 1 << 52), (0, 1 << 52)]


def test_a_disabled_space_is_refused_whatever_was_cached(gpc: GranuleProtection) -> None:
    assert gpc.allowed(Pas.NS, RAM)
    gpc.configure(ENABLED | GPCCR_EL3.mask("NSPAD"), 0)
    assert gpc.check(Pas.NS, RAM) == GpcFault(GpcFaultKind.PROTECTION, 0)
    assert not gpc.allowed(Pas.NS, RAM)


def test_an_invalid_configuration_stops_every_access(gpc: GranuleProtection) -> None:
    gpc.configure(ENABLED | GPCCR_EL3.mask("PGS"), 0)
    for pas in Pas:
        assert gpc.check(pas, RAM) == GpcFault(GpcFaultKind.WALK, 0)
    assert gpc.gpi(RAM) is None


def test_the_cache_stays_bounded_and_correct(gpc: GranuleProtection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realmkit.machine.gpc.CACHE_GRANULES", 4)
    for _ in range(2):
        for granule in range(16):
            assert gpc.allowed(Pas.NS, RAM + granule * 4096)
            assert not gpc.allowed(Pas.REALM, RAM + granule * 4096)
