"""Code with words in it that Unicorn must not see: it stops there, and nobody else notices that it would."""

import pytest

from realmkit.arch.pas import Pas
from realmkit.machine.core import StopKind
from tests.machine.core import code
from tests.machine.core.kit import CODE, EL0, HVC0, VECTORS, Bench

USER = 0x8003_8000
UNMAPPED = 0x40_0000
FATAL = 0x0E40_0400  # half-precision SIMD; as likely a constant between two functions
FROM_EL0 = VECTORS + 0x400
SVC_ESR = 0x5600_0007
BUDGET = 400_000
"""More than a slice."""
COUNT = (
    0x9100_0442,  # add x2, x2, #1
    0x17FF_FFFF,  # b .-4
)


@pytest.fixture
def bench() -> Bench:
    """EL0 makes a call from a page with such a word, which EL1 has no right to execute, since EL0 may write it."""
    bench = Bench()
    bench.vectors()
    bench.enable_mmu()
    bench.map(USER, USER, user=True)
    bench.load(CODE, code.ERET_TO_EL0)
    bench.load(USER, (*code.USER_SVC, FATAL))
    bench.ctx.x[0], bench.ctx.x[1] = USER, EL0
    return bench


def test_el1_goes_on_after_the_end_of_a_slice(bench: Bench) -> None:
    bench.load(FROM_EL0, COUNT)
    assert bench.run(budget=BUDGET).kind is StopKind.BUDGET
    assert bench.ctx.pc - FROM_EL0 in (0, 4)
    assert bench.ctx.x[2] > BUDGET // 4
    assert bench.ctx.read("ESR_EL1") == SVC_ESR


def test_a_data_abort_stays_one(bench: Bench) -> None:
    bench.load(FROM_EL0, (0xF940_0064,))  # ldr x4, [x3]
    bench.ctx.x[3] = UNMAPPED
    assert bench.run_to_vector() == 4
    assert bench.ctx.read("ESR_EL1") >> 26 == 0x25
    assert bench.ctx.read("FAR_EL1") == UNMAPPED


def test_an_exit_to_el2_is_one(bench: Bench) -> None:
    """Registers that EL2 has set since are not those of the engine."""
    assert bench.run_to_vector() == 8
    assert bench.ctx.pc == FROM_EL0 + 4
    assert bench.ctx.read("ESR_EL1") == SVC_ESR
    bench.load(FROM_EL0 + 4, (HVC0,))
    bench.ctx.x[7] = 77
    assert bench.run().kind is StopKind.LEFT
    assert (bench.ctx.pc, bench.ctx.x[7]) == (FROM_EL0 + 8, 77)


def test_an_address_space_that_does_not_have_the_page(bench: Bench) -> None:
    assert bench.run_to_vector() == 8
    bench.bus.write64(Pas.NS, bench.entry(USER), 0)
    bench.load(FROM_EL0 + 4, (0xD508_831F, 0xD503_3F9F, 0xD503_3FDF, *COUNT))  # tlbi vmalle1is; dsb sy; isb
    assert bench.run(budget=BUDGET).kind is StopKind.BUDGET
    assert bench.ctx.x[2] > BUDGET // 4
    assert bench.ctx.read("ESR_EL1") == SVC_ESR


def test_another_such_place_in_what_is_there_later(bench: Bench) -> None:
    """Same address, other code: both words are UNDEFINED where they are executed."""
    bench.load(USER, (0xD503_201F, FATAL))  # nop
    for place in (4, 12):
        assert bench.run_to_vector() == 8
        assert bench.ctx.read("ESR_EL1") >> 26 == 0
        assert bench.ctx.read("ELR_EL1") == USER + place
        bench.map(USER, USER + 0x1000, user=True)
        bench.load(USER + 0x1000, (0xD503_201F, 0xD503_201F, 0xD503_201F, FATAL))
        bench.load(CODE, (0xD508_831F, 0xD503_3F9F, 0xD503_3FDF, *code.ERET_TO_EL0))
        bench.ctx.pc, bench.ctx.pstate, bench.ctx.x[0] = CODE, 0x3C5, USER
