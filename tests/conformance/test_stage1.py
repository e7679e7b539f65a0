"""A Realm with its MMU on: faults whose cause lies in its own tables (spec: rtt section 11, rec-run 6.2)."""

import struct

import pytest

from realmkit.arch.esr import Ec
from realmkit.arch.rmi import ExitReason, Rmi
from tests.conformance import words
from tests.conformance.kit import CODE, NOT_MAPPED, OUTSIDE, RAM, UNMAPPED, Kit, program

TABLES = 0xA000
"""Level 1, 2 and 3 tables of the lower half (39 bits), one page each."""
L1, L2, L3 = TABLES, TABLES + 0x1000, TABLES + 0x2000
PAGE, TABLE, BLOCK = 0x703, 3, 0x701
"""AF, Inner Shareable, attribute 0 (Normal)."""
VA = 0x1F_F000
"""Last page of the first level 3 table: what the tests map."""
TCR = 25 | 25 << 16 | 1 << 23 | 5 << 32
"""39 bits, no upper half, 48-bit output addresses."""
HIDDEN_TABLE = 0x7000
SAME_DATA = 0x25


def tables(l1: dict[int, int], l2: dict[int, int], l3: dict[int, int]) -> dict[int, bytes]:
    """Pages of the three tables; whatever is not given maps the first 2 MB flat."""
    flat = {n: n << 12 | PAGE for n in range(16)}
    full = ({0: L2 | TABLE, **l1}, {0: L3 | TABLE, **l2}, {**flat, **l3})
    return {
        where: struct.pack("<512Q", *(entries.get(n, 0) for n in range(512)))
        for where, entries in zip((L1, L2, L3), full, strict=True)
    }


def mmu_on(ttbr: int = L1, tcr: int = TCR) -> list[int]:
    code: list[int] = []
    for name, value in (("TTBR0_EL1", ttbr), ("TCR_EL1", tcr), ("MAIR_EL1", 0xFF)):
        code += [*words.mov(5, value), words.msr(name, 5)]
    return [*code, words.ISB, *words.mov(5, 0xC5_0878 | 1), words.msr("SCTLR_EL1", 5), words.ISB]


def kit_of(va: int, *, l1: dict[int, int] = {}, l2: dict[int, int] = {}, l3: dict[int, int] = {}) -> Kit:  # noqa: B006
    return Kit(program(mmu_on(), words.mov(3, va), words.ldr(5, 3)), mapped=tables(l1, l2, l3))


def test_flat() -> None:
    kit = kit_of(RAM)
    kit.done()


OUTSIDE_CASES = {
    "page": (VA, {"l3": {511: OUTSIDE | PAGE}}, 3),
    "level 2 block": (0x4000_0000 - 8, {"l2": {511: OUTSIDE | BLOCK}}, 2),
    "level 1 block": (0x7F_FFFF_FFF8, {"l1": {511: OUTSIDE | BLOCK}}, 1),
    "level 3 table": (0x20_0000, {"l2": {1: OUTSIDE | TABLE}}, 2),
    "level 2 table": (0x4000_0000, {"l1": {1: OUTSIDE | TABLE}}, 1),
}


@pytest.mark.parametrize(("va", "entries", "level"), OUTSIDE_CASES.values(), ids=OUTSIDE_CASES)
def test_tables_that_lead_outside(va: int, entries: dict[str, dict[int, int]], level: int) -> None:
    """An Address Size fault at the level of the descriptor that holds the address."""
    kit = kit_of(va, **entries)
    vector, esr, far, _, _ = kit.handled()
    assert (vector, esr >> 26, esr & 0x3FF, far) == (0x200, SAME_DATA, level, va)
    kit.done()


LARGE_L2, LARGE_L3 = 0x2_0000, 0x3_0000
"""Tables of larger granules, from level 2 (36 bits with 16 KB, 42 bits with 64 KB); all that is used lies in a page."""
LARGE_GRANULES = {"16K": (14, 36, 2), "64K": (16, 42, 1)}
LARGE_CASES = {
    "page": (0, 31, {}, {31: OUTSIDE | PAGE}, 3),
    "block": (1, 31, {1: OUTSIDE | BLOCK}, {}, 2),
    "table": (1, 31, {1: OUTSIDE | TABLE}, {}, 2),
    "no fault": (0, 0, {}, {}, None),
    "own translation fault": (0, 31, {}, {31: 0}, None),
}


@pytest.mark.parametrize(("shift", "bits", "tg0"), LARGE_GRANULES.values(), ids=LARGE_GRANULES)
@pytest.mark.parametrize(("block", "page", "l2", "l3", "level"), LARGE_CASES.values(), ids=LARGE_CASES)
def test_larger_granules(
    shift: int, bits: int, tg0: int, block: int, page: int, l2: dict[int, int], l3: dict[int, int], level: int | None
) -> None:
    """The RMM looks through a Realm's tables of 16 and 64 KB to the descriptor that leads outside."""
    flat = {n: n << shift | PAGE for n in range(16)}
    mapped = {
        where: struct.pack("<512Q", *(entries.get(n, 0) for n in range(512)))
        for where, entries in ((LARGE_L2, {0: LARGE_L3 | TABLE, **l2}), (LARGE_L3, {**flat, **l3}))
    }
    va = block << shift + shift - 3 | page << shift | (RAM if not page else 8)
    tcr = 64 - bits | tg0 << 14 | 1 << 23 | 5 << 32
    kit = Kit(program(mmu_on(LARGE_L2, tcr), words.mov(3, va), words.ldr(5, 3)), mapped=mapped)
    if not page:
        kit.done()
        return
    vector, esr, far, _, _ = kit.handled()
    expected = level if level is not None else 7
    assert (vector, esr >> 26, esr & 0x3FF, far) == (0x200, SAME_DATA, expected, va)
    kit.done()


def test_a_table_base_outside() -> None:
    """Nothing can be fetched any more, not even the vector: the fault says level 0."""
    kit = Kit(program(mmu_on(OUTSIDE)))
    context = kit.context()
    kit.ticks(200_000)
    assert context.read("ESR_EL1") & 0x3F == 0
    assert context.read("ESR_EL1") >> 26 == 0x21


@pytest.mark.parametrize("ipa", [UNMAPPED, HIDDEN_TABLE])
def test_a_walk_into_memory_that_the_host_must_provide(ipa: int) -> None:
    """The exit names the page of the table; the syndrome does not say that it was a walk."""
    kit = kit_of(0x20_0008, l2={1: ipa | TABLE})
    if ipa == HIDDEN_TABLE:
        vector, esr, _, _, _ = kit.handled()
        assert (vector, esr >> 26, esr & 0x23F) == (0x200, SAME_DATA, 0x210), "EMPTY: an external abort"
        return
    kit.enter().shows(ExitReason.SYNC, esr=Ec.DABT_LOWER << 26 | 7, hpfar=ipa >> 8)
    kit.ok(Rmi.DATA_CREATE_UNKNOWN, kit.rd, kit.granule(), ipa)
    vector, esr, far, _, _ = kit.handled()
    assert (vector, esr >> 26, esr & 0x3FF, far) == (0x200, SAME_DATA, 7, 0x20_0008), "its own translation fault now"


def test_a_walk_into_unprotected_memory_that_is_not_there() -> None:
    kit = kit_of(0x20_0008, l2={1: NOT_MAPPED | TABLE})
    kit.enter().shows(ExitReason.SYNC, esr=Ec.DABT_LOWER << 26 | 7, hpfar=NOT_MAPPED >> 8)


def test_mmio_by_a_virtual_address_shows_only_the_offset_in_the_page() -> None:
    kit = kit_of(VA + 0x123 * 8, l3={511: NOT_MAPPED | PAGE})
    outcome = kit.enter()
    outcome.shows(ExitReason.SYNC, esr=0x24 << 26 | 0x1C0_8007, far=0x918, hpfar=NOT_MAPPED >> 8)
    assert kit.done(flags=1, gprs=[0x77]).x[5] == 0x77
    assert CODE < kit.context().pc < CODE + 0x1000
