from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch import smccc
from realmkit.arch.events import Event, GptChange
from realmkit.arch.pas import GPI_OF_PAS, Gpi, Pas
from realmkit.machine import platforms
from realmkit.machine.platform import AddressRange, Platform
from realmkit.machine.platforms import GIB, MIB, TIB
from realmkit.machine.port import GranuleProtectionFault
from tests.monitor.fakes import Board

G = 4096
OK, BAD_ADDR, BAD_PAS = smccc.E_RMM_OK, smccc.E_RMM_BAD_ADDR, smccc.E_RMM_BAD_PAS


def delegate(board: Board, pa: int) -> int:
    return board.rmm_smc(smccc.GTSI_DELEGATE, pa)[0]


def undelegate(board: Board, pa: int) -> int:
    return board.rmm_smc(smccc.GTSI_UNDELEGATE, pa)[0]


@pytest.fixture
def board() -> Board:
    return Board().boot()


PLATFORMS = {
    "small": platforms.small(),
    "small-8M": platforms.small(8 * MIB),
    "fvp": platforms.fvp(),
    "fvp-odd": platforms.fvp(2 * GIB + 514 * MIB),
    "fvp-1T": platforms.fvp(TIB),
}


def edges(spans: tuple[AddressRange, ...]) -> Iterator[int]:
    for span in spans:
        yield from {span.base, span.base + (span.size // 2 & -G), span.end - G}


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS.keys())
def test_the_initial_tables_follow_the_platform(platform: Platform) -> None:
    board = Board(platform).boot()
    for gpi, spans in {
        Gpi.NS: platform.nonsecure_ram(),
        Gpi.ROOT: (*platform.root, platform.gpt),
        Gpi.SECURE: platform.secure,
        Gpi.REALM: (platform.rmm,),
        Gpi.ANY: tuple(device.range for device in platform.devices),
    }.items():
        for pa in edges(spans):
            assert board.gpc.gpi(pa) is gpi, hex(pa)
            for pas in Pas:
                assert board.gpc.allowed(pas, pa) == (gpi is Gpi.ANY or GPI_OF_PAS[pas] is gpi)
    assert board.gpc.gpi((1 << 48) - G) is Gpi.ANY


def test_ranges_that_are_not_aligned_to_table_entries_are_exact() -> None:
    small = platforms.small()
    odd = Platform(
        name="odd",
        dram=small.dram,
        root=small.root,
        secure=(AddressRange(0x0400_1000, 0x3000), AddressRange(0x0401_F000, 0x2_2000)),
        devices=small.devices,
        mpidrs=(0,),
        rmm=AddressRange(0x8020_3000, 0x5000),
        gpt=small.gpt,
        gpt_root=small.gpt_root,
    )
    board = Board(odd).boot()
    for start, expected in {0x0400_0000: Gpi.ANY, 0x8020_0000: Gpi.NS}.items():
        for pa in range(start, start + 0x6_0000, G):
            inside = any(span.contains(pa) for span in odd.secure)
            gpi = Gpi.SECURE if inside else Gpi.REALM if odd.rmm.contains(pa) else expected
            assert board.gpc.gpi(pa) is gpi, hex(pa)


def test_delegation_moves_one_granule_to_the_realm_world_and_back(board: Board) -> None:
    pa = 0x9000_0000
    board.ns.write64(Pas.NS, pa, 1)
    assert delegate(board, pa) == OK
    with pytest.raises(GranuleProtectionFault):
        board.ns.read64(Pas.NS, pa)
    board.realm.write64(Pas.REALM, pa, 2)
    for neighbour in (pa - G, pa + G):
        board.ns.write64(Pas.NS, neighbour, 3)
    assert undelegate(board, pa) == OK
    with pytest.raises(GranuleProtectionFault):
        board.realm.read64(Pas.REALM, pa)
    assert board.ns.read64(Pas.NS, pa) == 2


@pytest.mark.parametrize(
    "pa",
    [
        0x9000_0001,
        0x9000_0800,
        0x0,
        0x0400_0000,
        0x1C0B_0000,
        0x7FFF_F000,
        platforms.fvp().rmm.base,
        platforms.fvp().rmm.end - G,
        platforms.fvp().gpt.base,
        0x1_0000_0000,
        0x8_7FFF_F000,
        0x9_0000_0000,
        (1 << 48) - G,
        1 << 48,
        (1 << 64) - G,
        (1 << 64) - 1,
    ],
)
def test_addresses_that_are_not_delegable_granules(board: Board, pa: int) -> None:
    assert delegate(board, pa) == BAD_ADDR
    assert undelegate(board, pa) == BAD_ADDR
    assert board.invalidated == []


@pytest.mark.parametrize("pa", [0x8000_0000, platforms.fvp().rmm.base - G, 0x8_8000_0000, 0x8_FFFF_F000])
def test_the_ends_of_each_bank_are_delegable(board: Board, pa: int) -> None:
    assert delegate(board, pa) == OK
    assert board.gpc.gpi(pa) is Gpi.REALM


def test_transitions_from_the_wrong_world_change_nothing(board: Board) -> None:
    pa = 0x9000_0000
    assert undelegate(board, pa) == BAD_PAS
    assert board.gpc.gpi(pa) is Gpi.NS
    assert delegate(board, pa) == OK
    assert delegate(board, pa) == BAD_PAS
    assert board.gpc.gpi(pa) is Gpi.REALM


def test_every_transition_invalidates_after_it_wrote(board: Board) -> None:
    pa = 0x9000_0000
    delegate(board, pa)
    assert board.invalidated[-1] == (pa, G)
    board.invalidated.clear()
    undelegate(board, pa)
    assert board.invalidated == [(pa, G), (pa, G)], "once for nobody's, once for the Host's"


def test_tables_are_made_on_demand_in_the_carve_out() -> None:
    board = Board(platforms.fvp(TIB)).boot()
    pa = 0x8_8000_0000 + 500 * GIB + 7 * G
    untouched = board.memory.read(board.platform.gpt.base + 100 * (128 << 10), 128 << 10)
    assert not any(untouched)
    assert delegate(board, pa) == OK
    assert board.gpc.gpi(pa) is Gpi.REALM
    for other in (pa - G, pa + G, pa + 2 * MIB, pa + 32 * MIB, pa + 511 * MIB, pa - 7 * G + GIB - G, pa + GIB):
        assert board.gpc.gpi(other) is Gpi.NS, hex(other)
    assert ((pa & -GIB), GIB) in board.invalidated
    assert not any(board.memory.read(board.platform.gpt.base + 100 * (128 << 10), 128 << 10))


def test_the_host_cannot_reach_the_tables(board: Board) -> None:
    for table in (board.platform.gpt_root.base, board.platform.gpt.base):
        for bus, pas in ((board.ns, Pas.NS), (board.realm, Pas.REALM), (board.secure, Pas.SECURE)):
            with pytest.raises(GranuleProtectionFault):
                bus.write64(pas, table, 0)


def test_changes_are_events(board: Board) -> None:
    events: list[Event] = []
    board.events.subscribe(events.append)
    pa = 0x9000_0000
    for call in (delegate, delegate, undelegate):
        call(board, pa)
    changes = [event for event in events if isinstance(event, GptChange)]
    assert changes == [GptChange(0, 0, pa, "NS", "REALM"), GptChange(0, 0, pa, "REALM", "NS")]


PLACES = st.sampled_from(
    [base + offset for base in (0x8000_0000, 0x9FFF_E000, 0xC000_0000, 0x8_8000_0000) for offset in range(0, 4 * G, G)]
    + [0x9FFF_0000, 0x9E00_0000, 0x8_BFFF_F000, 0x8_C000_0000]
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), PLACES), max_size=30))
def test_granules_belong_to_exactly_one_world_after_any_sequence(steps: list[tuple[bool, int]]) -> None:
    board = Board().boot()
    realm: set[int] = set()
    for to_realm, pa in steps:
        if to_realm:
            assert delegate(board, pa) == (BAD_PAS if pa in realm else OK)
            realm.add(pa)
        else:
            assert undelegate(board, pa) == (OK if pa in realm else BAD_PAS)
            realm.discard(pa)
    for pa in {pa + near for _, pa in steps for near in (-G, 0, G)}:
        if any(span.contains(pa) for span in board.platform.delegable_ranges()):
            owner = Pas.REALM if pa in realm else Pas.NS
            assert [pas for pas in Pas if board.gpc.allowed(pas, pa)] == [owner]
