"""MMIO of running code that the Host emulates: sizes, sign extension, registers (spec: rec-run sections 3, 4, 6.2)."""

import pytest

from realmkit.arch.esr import Ec
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ExitReason
from tests.conformance import words
from tests.conformance.kit import NOT_MAPPED, Kit, program

WRITTEN = 0xAABB_CCDD_EEFF_8899
ANSWER = 0xF1F2_F3F4_F5F6_F7F8
PLACE = NOT_MAPPED + 0xFF0
ESR = Ec.DABT_LOWER << 26 | 1 << 24 | 7
SF, WNR = 1 << 15, 1 << 6
MASK64 = (1 << 64) - 1


def kit_of(*code: int) -> Kit:
    return Kit(program(words.mov(3, PLACE), words.mov(5, WRITTEN), list(code)))


def load(size: int, signed: bool, wide: bool) -> int:
    """LDRB, LDRSB..: ``wide`` is the width of the register."""
    return words.ldst(size, (2 if wide else 3) if signed else 1, 5, 3)


READS = [
    (size, signed, wide)
    for size in range(4)
    for signed in (False, True)
    for wide in (False, True)
    if not (signed and size == 3) and not (signed and size == 2 and not wide) and (signed or wide == (size == 3))
]


@pytest.mark.parametrize(("size", "signed", "wide"), READS)
def test_reads(size: int, signed: bool, wide: bool) -> None:
    """The Host gives 64 bits; the Realm gets what the instruction loads of them."""
    kit = kit_of(load(size, signed, wide))
    kit.enter().shows(
        ExitReason.SYNC, esr=ESR | size << 22 | (SF if wide else 0), far=PLACE & 0xFFF, hpfar=PLACE >> 12 << 4
    )
    pc = kit.context().pc
    expected = ANSWER & ((1 << (8 << size)) - 1)
    if signed:
        expected |= MASK64 & ~((1 << (8 << size)) - 1)
    if not wide:
        expected &= 0xFFFF_FFFF
    assert kit.done(flags=ENTER_EMUL_MMIO, gprs=[ANSWER]).x[5] == expected
    assert kit.context().pc > pc


@pytest.mark.parametrize("size", range(4))
def test_writes(size: int) -> None:
    """The Host sees the bytes that are written and none of the register's others."""
    kit = kit_of(words.ldst(size, 0, 5, 3))
    kit.enter().shows(
        ExitReason.SYNC,
        esr=ESR | WNR | size << 22 | (SF if size == 3 else 0),
        far=PLACE & 0xFFF,
        hpfar=PLACE >> 12 << 4,
        gprs=(WRITTEN & ((1 << (8 << size)) - 1),),
    )
    assert kit.done(flags=ENTER_EMUL_MMIO, gprs=[ANSWER]).x[5] == WRITTEN


def test_reads_into_xzr() -> None:
    kit = kit_of(words.ldr(31, 3))
    kit.enter()
    context = kit.done(flags=ENTER_EMUL_MMIO, gprs=[ANSWER])
    assert ANSWER not in context.x
    assert context.x[5] == WRITTEN


def test_without_emulation_the_access_is_made_again() -> None:
    kit = kit_of(words.ldr(5, 3))
    first = kit.enter()
    assert kit.enter(gprs=[ANSWER]).record == first.record
    assert kit.context().x[5] == WRITTEN


def test_ordered_and_unprivileged_accesses_have_a_syndrome() -> None:
    """LDAR, STLR, LDTR; the ordering itself (AR) is not shown."""
    ldar, stlr, ldtr = 0xC8DF_FC65, 0xC89F_FC65, 0xF840_0865
    for word, write in ((ldar, 0), (stlr, WNR), (ldtr, 0)):
        kit = kit_of(word)
        kit.enter().shows(
            ExitReason.SYNC,
            esr=ESR | 3 << 22 | SF | write,
            far=PLACE & 0xFFF,
            hpfar=PLACE >> 12 << 4,
            gprs=(WRITTEN,) if write else (),
        )


def test_emulation_is_for_the_exit_before_only() -> None:
    """After an exit of any other kind there is nothing to emulate."""
    kit = kit_of(words.ldr(5, 3))
    assert kit.enter(flags=ENTER_EMUL_MMIO).x0 == 3, "there was no exit yet"
    kit.enter()
    kit.done(flags=ENTER_EMUL_MMIO)
    assert kit.enter(flags=ENTER_EMUL_MMIO).x0 == 3, "the last exit was a host call"


def test_a_refused_entry_keeps_the_abort() -> None:
    kit = kit_of(words.ldr(5, 3))
    kit.enter()
    assert kit.enter(flags=ENTER_EMUL_MMIO, hcr=1).x0 == 3
    assert kit.done(flags=ENTER_EMUL_MMIO, gprs=[ANSWER]).x[5] == ANSWER
