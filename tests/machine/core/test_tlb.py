"""The translation cache: what TLBI makes it forget, ASIDs, blocks, and address translation instructions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realmkit.arch.pas import Pas, SecurityState
from realmkit.machine.core.tlb import PAGE_MASK, UPPER_PAGE, TranslationCache
from realmkit.machine.walk import Controls
from tests.machine.core import code
from tests.machine.core.kit import CODE, DATA, Bench

VA = 0x40_0000
UPPER = 0xFFFF_FF80_0040_0000


def bench_with(words: tuple[int, ...], asid: int = 0) -> Bench:
    bench = Bench()
    bench.vectors()
    bench.enable_mmu(asid)
    bench.load(CODE, words)
    bench.bus.write64(Pas.NS, DATA, 0x1111)
    bench.bus.write64(Pas.NS, DATA + 0x1000, 0x2222)
    return bench


def remap(bench: Bench, va: int, operand: int) -> tuple[int, int]:
    """Read ``va``, let the code change its descriptor to the second page and invalidate, read again."""
    entry = bench.entry(va)
    ctx = bench.ctx
    ctx.x[0], ctx.x[1], ctx.x[2], ctx.x[3] = operand, va, bench.word(entry) + 0x1000, entry
    bench.run()
    assert bench.exit.esr >> 26 == 0x16
    return ctx.x[4], ctx.x[5]


def test_tlbi_by_address() -> None:
    for va in (VA, UPPER):
        bench = bench_with(code.REMAP)
        bench.map(va, DATA)
        assert remap(bench, va, va >> 12 & PAGE_MASK) == (0x1111, 0x2222)


def test_tlbi_by_address_in_an_asid() -> None:
    bench = bench_with(code.REMAP, asid=5)
    bench.map(VA, DATA, own=True)
    assert remap(bench, VA, 5 << 48 | VA >> 12) == (0x1111, 0x2222)


def test_tlbi_of_everything() -> None:
    bench = bench_with(code.REMAP_ALL)
    bench.map(VA, DATA)
    assert remap(bench, VA, 0) == (0x1111, 0x2222)


def test_tlbi_of_one_page_of_a_block_reaches_all_of_it() -> None:
    bench = bench_with(code.REMAP)
    block, other = 0x8060_0000, 0x8080_0000
    bench.map_block(0x4000_0000, block)
    bench.bus.write64(Pas.NS, block + 0x5000, 0x1111)
    bench.bus.write64(Pas.NS, other + 0x5000, 0x2222)
    entry = bench.entry(0x4000_0000, 2)
    ctx = bench.ctx
    ctx.x[0], ctx.x[1] = 0x4000_0000 >> 12, 0x4000_5000
    ctx.x[2], ctx.x[3] = bench.word(entry) - block + other, entry
    bench.run()
    assert (ctx.x[4], ctx.x[5]) == (0x1111, 0x2222)


@pytest.mark.parametrize("reach", [12, 14, 16, 21, 25, 30])
def test_a_page_is_forgotten_with_the_largest_mapping_that_held_it(reach: int) -> None:
    """Pages of 4, 16 and 64 KB alone, what is larger with all that its part of the cache has."""
    cache = TranslationCache()
    controls = Controls(SecurityState.NS, False, 1, 0, 0, 0, 0)
    space = cache.space((4, b""), 1, False, controls)
    first = UPPER_PAGE | 1 << 30
    inside = {first, first + (1 << reach - 12) - 1}
    outside = first - 1, first + (1 << reach - 12)
    for page in inside:
        space.keep(page, page == first, (page << 12, 1), reach, True)
        space.keep(page, page != first, (page << 12, 1), 12, False)
    for page in outside:
        space.keep(page, False, (page << 12, 1), 12, True)
    assert cache.forget_page(max(inside), None, False) is (reach > 12)
    kept = [page for page in (*inside, *outside) if space.code(page) or space.data(page)]
    assert sorted(kept) == (sorted(outside) if reach <= 16 else [])


def test_tlbi_of_all_levels_forgets_where_tables_are() -> None:
    """The level 2 descriptor leads to another table, and the page that is named is not the one that is read."""
    bench = bench_with(code.REMAP)
    bench.map(VA, DATA)
    bench.map(VA + 0x20_0000, DATA + 0x1000)
    first, second = bench.entry(VA, 2), bench.entry(VA + 0x20_0000, 2)
    ctx = bench.ctx
    ctx.x[0], ctx.x[1], ctx.x[2], ctx.x[3] = (VA >> 12) + 7, VA, bench.word(second), first
    bench.run()
    assert ctx.x[4] == 0x1111
    ctx.pc, ctx.x[0] = CODE, VA >> 12
    bench.run()
    assert ctx.x[5] == 0x2222


def test_asids_have_their_own_translations() -> None:
    """Both tables map the same address; global pages in the upper half stay, own pages follow TTBR0_EL1."""
    bench = bench_with(code.SWITCH_ASID, asid=1)
    bench.map(VA, DATA, own=True)
    first = bench.ctx.regs["TTBR0_EL1"]
    upper_code = UPPER + 0x10_0000
    bench.map(upper_code, CODE)
    bench.ctx.regs["TTBR0_EL1"] = second = bench._table() | 2 << 48
    bench.map(VA, DATA + 0x1000, own=True)
    bench.ctx.regs["TTBR0_EL1"] = first
    ctx = bench.ctx
    ctx.pc, ctx.x[0], ctx.x[1], ctx.x[2] = upper_code, second, VA, first
    bench.run()
    assert (ctx.x[4], ctx.x[5], ctx.x[6]) == (0x1111, 0x2222, 0x1111)


def test_tlbi_of_one_context_reaches_the_others_of_its_virtual_machine() -> None:
    bench = bench_with(code.LDR)
    bench.map(VA, DATA)
    other = bench.context()
    other.regs.update(bench.ctx.regs)
    other.x[1] = VA
    bench.run(other)
    assert other.x[0] == 0x1111
    bench.load(CODE, code.REMAP)
    assert remap(bench, VA, VA >> 12) == (0x1111, 0x2222)
    bench.load(CODE, code.LDR)
    other.pc = CODE
    bench.run(other)
    assert other.x[0] == 0x2222


def test_address_translation_instructions() -> None:
    bench = bench_with(code.AT)
    bench.map(VA, DATA, user=True, read_only=True)
    bench.ctx.x[1] = VA + 0x123
    bench.run()
    assert bench.ctx.x[0] & 1 == 0
    assert bench.ctx.x[0] & (1 << 48) - 1 & ~0xFFF == DATA
    assert bench.ctx.x[0] >> 56 == 0xFF
    assert bench.ctx.x[2] & 0x7F == 1 | 0b001111 << 1  # AT S1E0W: permission fault at level 3
    assert bench.ctx.read("PAR_EL1") == bench.ctx.x[2]


# ---- the cache by itself ----


def controls(ttbr0: int, asid: int) -> Controls:
    return Controls(SecurityState.NS, sctlr=1, tcr=0, ttbr0=ttbr0 | asid << 48, ttbr1=0x5000)


pages = st.integers(0, 15) | st.integers(UPPER_PAGE, UPPER_PAGE + 15)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 2), pages, st.booleans(), st.sampled_from((12, 14))),
        st.tuples(st.just("page"), st.none() | st.integers(0, 2), pages),
        st.tuples(st.just("asid"), st.integers(0, 2)),
        st.tuples(st.just("clear")),
    ),
    max_size=30,
)


@given(steps)
@settings(max_examples=200)
def test_nothing_survives_that_the_architecture_forgets(script: list[tuple[object, ...]]) -> None:
    """A model that remembers each entry alone, against the cache: the cache may forget more, never less."""
    cache = TranslationCache()
    model: dict[tuple[int, int, bool], tuple[int, int]] = {}
    for number, step in enumerate(script):
        match step:
            case ("keep", int(asid), int(page), bool(not_global), int(reach)):
                space = cache.space((4, bytes([asid])), 1, False, controls(0x1000 * asid, asid))
                space.keep(page, False, (number << 12, 3), reach, not_global)
                model[asid, page, not_global] = reach, number << 12
            case ("page", asid, int(page)):
                cache.forget_page(page, asid if isinstance(asid, int) else None, False)
                for key, (reach, _) in list(model.items()):
                    covers = key[1] >> (reach - 12) == page >> (reach - 12)
                    if covers and (asid is None or not key[2] or key[0] == asid):
                        del model[key]
            case ("asid", int(asid)):
                cache.forget_asid(asid)
                for key in [key for key in model if key[2] and key[0] == asid]:
                    del model[key]
            case _:
                cache.clear()
                model.clear()
    for asid in range(3):
        space = cache.space((4, bytes([asid])), 1, False, controls(0x1000 * asid, asid))
        for page in (*range(16), *range(UPPER_PAGE, UPPER_PAGE + 16)):
            found = space.data(page)
            if found is not None:
                kept = [pa for (_, where, _), (_, pa) in model.items() if where == page]
                assert found[0] in kept
