"""A Realm's EL0: its exceptions go to the Realm's EL1 by the lower vectors, or to the Host as those of EL1 do."""

import pytest

from realmkit.arch.esr import Ec
from realmkit.arch.rmi import ENTER_INJECT_SEA, ENTER_TRAP_WFI, ExitReason
from tests.conformance import words
from tests.conformance.kit import EMPTY, MAPPED, NOT_MAPPED, OUTSIDE, UNMAPPED, Kit, program
from tests.conformance.words import Code

LOWER = 0x400
SCTLR = 0xC5_0878
"""As a REC starts: EL0 may wait."""
NTWI = 1 << 16
EL0 = 0x3C0
"""PSTATE at EL0 with D, A, I, F masked, as the program sets it."""


def at_el0(*code: int, sctlr: int = SCTLR) -> Kit:
    """Run code at EL0 with this SCTLR_EL1."""
    drop: Code = [*words.mov(5, sctlr), words.msr("SCTLR_EL1", 5)]
    drop += [*words.mov(5, EL0), words.msr("SPSR_EL1", 5), 0x1000_0085, words.msr("ELR_EL1", 5), words.ISB, words.ERET]
    return Kit(program(drop, list(code)))


def to(ipa: int, word: int) -> Kit:
    return at_el0(*words.mov(3, ipa), word)


@pytest.mark.parametrize(
    ("ipa", "word", "ec", "status"),
    [
        (EMPTY, words.ldr(5, 3), Ec.DABT_LOWER, 0x210),
        (EMPTY, words.br(3), Ec.IABT_LOWER, 0x210),
        (MAPPED, words.br(3), Ec.IABT_LOWER, 0x210),
        (OUTSIDE, words.ldr(5, 3), Ec.DABT_LOWER, 0),
        (OUTSIDE, words.br(3), Ec.IABT_LOWER, 0),
    ],
)
def test_aborts_of_the_realms_own(ipa: int, word: int, ec: Ec, status: int) -> None:
    vector, esr, far, _, spsr = to(ipa, word).handled()
    assert (vector, esr >> 26, esr & 0x23F, far, spsr & ~0xC00) == (LOWER, ec, status, ipa, EL0)


def test_aborts_for_the_host() -> None:
    kit = to(UNMAPPED, words.ldr(5, 3))
    kit.enter().shows(ExitReason.SYNC, esr=0x24 << 26 | 7, hpfar=UNMAPPED >> 8)
    kit = to(NOT_MAPPED + 8, words.ldr(5, 3))
    kit.enter().shows(ExitReason.SYNC, esr=0x24 << 26 | 0x1C0_8007, far=8, hpfar=NOT_MAPPED >> 8)
    vector, esr, far, _, spsr = kit.handled(flags=ENTER_INJECT_SEA)
    assert (vector, esr >> 26, esr & 0x23F, far, spsr) == (LOWER, Ec.DABT_LOWER, 0x210, NOT_MAPPED + 8, EL0)


@pytest.mark.parametrize("word", [words.SMC, words.HVC, words.mrs(5, "ID_AA64PFR0_EL1"), words.mrs(5, "VBAR_EL1")])
def test_instructions_of_el1_are_undefined(word: int) -> None:
    vector, esr, _, elr, _ = at_el0(word).handled()
    assert (vector, esr) == (LOWER, 1 << 25)
    assert elr


def test_svc() -> None:
    vector, esr, _, _, spsr = at_el0(words.SVC).handled()
    assert (vector, esr, spsr) == (LOWER, 0x15 << 26 | 1 << 25, EL0)


def test_wfi_is_el1s_to_allow_before_it_is_the_hosts_to_trap() -> None:
    vector, esr, _, _, _ = at_el0(words.WFI, sctlr=SCTLR & ~NTWI).handled(flags=ENTER_TRAP_WFI)
    assert (vector, esr >> 26, esr & 3) == (LOWER, Ec.WFX, 0)
    at_el0(words.WFI).enter(flags=ENTER_TRAP_WFI).shows(ExitReason.SYNC, esr=Ec.WFX << 26)
