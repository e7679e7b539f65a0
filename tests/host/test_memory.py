"""The Host's allocator of granules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.errors import InternalError, RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.host.memory import BLOCK, BLOCK_PAGES, GranuleAllocator, OutOfMemoryError
from realmkit.host.rmi import RmiError
from tests.host.kit import World

BASE = 0x8000_0000
PAGE = GRANULE_SIZE


def test_gives_out_every_granule_once_and_then_fails() -> None:
    allocator = GranuleAllocator([(BASE, 3 * PAGE), (BASE + BLOCK, 2 * PAGE)])
    got = [allocator.allocate() for _ in range(5)]
    assert got == [BASE, BASE + PAGE, BASE + 2 * PAGE, BASE + BLOCK, BASE + BLOCK + PAGE]
    with pytest.raises(OutOfMemoryError):
        allocator.allocate()
    allocator.free(got[3])
    assert allocator.allocate() == got[3]
    assert allocator.used == allocator.total == 5


def test_no_memory_at_all() -> None:
    allocator = GranuleAllocator([])
    with pytest.raises(OutOfMemoryError):
        allocator.allocate()
    with pytest.raises(OutOfMemoryError):
        allocator.contiguous(16, PAGE)


def test_two_ranges_share_a_block() -> None:
    allocator = GranuleAllocator([(BASE, 2 * PAGE), (BASE + 4 * PAGE, 2 * PAGE)])
    assert {allocator.allocate() for _ in range(4)} == {BASE + n * PAGE for n in (0, 1, 4, 5)}


@pytest.mark.parametrize("count", [1, 2, 4, 16, 256, BLOCK_PAGES, 3 * BLOCK_PAGES])
def test_runs_are_aligned_and_what_is_skipped_stays_usable(count: int) -> None:
    allocator = GranuleAllocator([(BASE + 3 * PAGE, 8 * BLOCK)])
    first = allocator.allocate()
    alignment = min(count * PAGE, BLOCK)
    run = allocator.contiguous(count, alignment)
    assert run % alignment == 0
    rest = [allocator.allocate() for _ in range(8 * BLOCK_PAGES - count - 1)]
    assert len({first, *rest, *range(run, run + count * PAGE, PAGE)}) == 8 * BLOCK_PAGES
    with pytest.raises(OutOfMemoryError):
        allocator.allocate()


def test_blocks_are_found_again_after_their_granules_were_freed_one_by_one() -> None:
    allocator = GranuleAllocator([(BASE, 2 * BLOCK)])
    for _ in range(10):
        blocks = [allocator.contiguous(BLOCK_PAGES, BLOCK) for _ in range(2)]
        assert sorted(blocks) == [BASE, BASE + BLOCK]
        with pytest.raises(OutOfMemoryError):
            allocator.contiguous(BLOCK_PAGES, BLOCK)
        for block in blocks:
            for page in range(BLOCK_PAGES):
                allocator.free(block + page * PAGE)
    assert not allocator.used


def test_short_runs_are_found_between_granules_in_use() -> None:
    allocator = GranuleAllocator([(BASE, BLOCK)])
    pages = [allocator.allocate() for _ in range(BLOCK_PAGES)]
    for page in pages[64:80]:
        allocator.free(page)
    assert allocator.contiguous(16, 16 * PAGE) == pages[64]
    with pytest.raises(OutOfMemoryError):
        allocator.contiguous(2, 2 * PAGE)


def test_freeing_twice_is_our_bug() -> None:
    allocator = GranuleAllocator([(BASE, BLOCK)])
    page = allocator.allocate()
    allocator.free(page)
    with pytest.raises(InternalError, match="freed twice"):
        allocator.free(page)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["one", "run", "free"]), st.integers(0, 9), st.integers(0, 99)), max_size=80))
def test_never_overlaps_never_leaks(steps: list[tuple[str, int, int]]) -> None:
    ranges = [(BASE + 5 * PAGE, 3 * BLOCK), (BASE + 16 * BLOCK, BLOCK + 7 * PAGE)]
    allocator = GranuleAllocator(ranges)
    held: list[list[int]] = []
    for what, order, pick in steps:
        if what == "free":
            if held:
                for page in held.pop(pick % len(held)):
                    allocator.free(page)
            continue
        count = 1 if what == "one" else 1 << order
        try:
            base = allocator.allocate() if what == "one" else allocator.contiguous(count, count * PAGE)
        except OutOfMemoryError:
            continue
        assert what == "one" or base % (count * PAGE) == 0
        held.append([base + n * PAGE for n in range(count)])
        everything = [page for run in held for page in run]
        assert len(everything) == len(set(everything)) == allocator.used
        assert all(any(low <= page < low + size for low, size in ranges) for page in everything)
    for run in held:
        for page in run:
            allocator.free(page)
    assert not allocator.used
    assert sum(1 for _ in iter(lambda: _try(allocator), None)) == allocator.total


def _try(allocator: GranuleAllocator) -> int | None:
    try:
        return allocator.allocate()
    except OutOfMemoryError:
        return None


def test_one_terabyte_costs_nothing() -> None:
    allocator = GranuleAllocator([(BASE, 1 << 40)])
    assert allocator.total == 1 << 28
    assert allocator.contiguous(BLOCK_PAGES, BLOCK) == BASE


# ---- granules that go to the Realm world ----


def test_granules_come_back_zero_whoever_used_them() -> None:
    world = World()
    memory, bus = world.hv.memory, world.port.bus
    page = memory.allocate()
    bus.write(Pas.NS, page, b"secret")
    memory.free(page)
    again = memory.allocate()
    assert again == page
    assert bus.read(Pas.NS, again, PAGE) == bytes(PAGE)
    memory.free(again)
    delegated = memory.allocate_delegated()
    assert memory.delegated == {delegated}
    memory.undelegate(delegated)
    world.assert_clean()


def test_a_run_of_which_one_granule_is_refused_is_given_back() -> None:
    world = World()
    memory = world.hv.memory
    run = memory.allocate_run(4, 4 * PAGE)
    world.hv.rmi.granule_delegate(run + 2 * PAGE)
    for n in range(4):
        memory._allocator.free(run + n * PAGE)
    with pytest.raises(RmiError, match="GRANULE_DELEGATE"):
        memory.allocate_delegated_run(4, 4 * PAGE)
    world.hv.rmi.granule_undelegate(run + 2 * PAGE)
    world.assert_clean()


def test_a_granule_that_is_not_the_hosts_is_refused_by_name() -> None:
    world = World()
    root = world.stack.machine.platform.gpt.base
    world.hv.memory._allocator.used += 1
    with pytest.raises(RealmkitError, match=rf"RMI_GRANULE_DELEGATE\(addr={root:#x}\) was refused: RMI_ERROR_INPUT"):
        world.hv.memory.delegate(root)
