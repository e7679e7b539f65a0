"""Stage 2 aborts of running code: what the Host sees, bit by bit, and what goes to the Realm (spec: rec-run 6.2)."""

import pytest

from realmkit.arch.esr import Ec
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ENTER_INJECT_SEA, ExitReason, Rmi
from tests.conformance import words
from tests.conformance.kit import (
    CODE,
    DESTROYED,
    EMPTY,
    EMPTY_ASSIGNED,
    MAPPED,
    NOT_MAPPED,
    OUTSIDE,
    READ_ONLY,
    UNMAPPED,
    UNPROTECTED,
    WRITE_ONLY,
    Kit,
    program,
)

SYNC = ExitReason.SYNC
SECRET = 0xAABB_CCDD_EEFF_8899
DATA, FETCH = Ec.DABT_LOWER << 26, Ec.IABT_LOWER << 26
SAME_DATA, SAME_FETCH = 0x25, 0x21
EL1H_VECTOR = 0x200
MASKED_EL1H = 0x3C5
TRANSLATION, PERMISSION = 4, 0xC
ISV, SAS_64, SF, WNR = 1 << 24, 3 << 22, 1 << 15, 1 << 6
EXTERNAL, EA, FSC = 0x10, 1 << 9, 0x3F
OFFSET = 0x10

LOADS = {
    "LDR": words.ldr(5, 3),
    "LDXR": words.ldxr(5, 3),
    "LDP": words.ldp(5, 6, 3),
    "LDR, post-index": words.ldr_post(5, 3, 8),
}
STORES = {"STR": words.str_(5, 3)}


def at(ipa: int, *code: int) -> Kit:
    """X3 is the address, X5 a value that the Host must not see for nothing."""
    return Kit(program(words.mov(3, ipa), words.mov(5, SECRET), list(code)))


@pytest.mark.parametrize("word", [*LOADS.values(), *STORES.values()], ids=[*LOADS, *STORES])
@pytest.mark.parametrize("ipa", [UNMAPPED, DESTROYED], ids=["unmapped RAM", "DESTROYED"])
def test_data_at_a_protected_address_that_the_host_must_provide(ipa: int, word: int) -> None:
    """Never emulatable, whatever the instruction, and no part of the address below the page is shown."""
    kit = at(ipa + OFFSET, word)
    outcome = kit.enter()
    outcome.shows(SYNC, esr=DATA | TRANSLATION + 3, hpfar=ipa >> 8)
    pc = kit.context().pc
    assert kit.enter(flags=ENTER_EMUL_MMIO).x0 == 3
    assert kit.enter(flags=ENTER_INJECT_SEA).record == outcome.record, "inject_sea has no effect: the access is retried"
    assert kit.context().pc == pc


@pytest.mark.parametrize("ipa", [UNMAPPED, DESTROYED], ids=["unmapped RAM", "DESTROYED"])
def test_fetch_from_a_protected_address_that_the_host_must_provide(ipa: int) -> None:
    kit = at(ipa + OFFSET, words.br(3))
    kit.enter().shows(SYNC, esr=FETCH | TRANSLATION + 3, hpfar=ipa >> 8)
    assert kit.context().pc == ipa + OFFSET


def test_a_page_that_the_host_provides_is_zero_and_the_access_is_made_again() -> None:
    kit = at(UNMAPPED, words.ldr(5, 3), words.str_(3, 3), words.ldr(6, 3))
    kit.enter()
    kit.ok(Rmi.DATA_CREATE_UNKNOWN, kit.rd, kit.granule(), UNMAPPED)
    context = kit.done()
    assert (context.x[5], context.x[6]) == (0, UNMAPPED)


@pytest.mark.parametrize("level", [1, 2])
def test_the_level_is_the_one_where_the_walk_ends(level: int) -> None:
    where = {1: UNPROTECTED + (1 << 30), 2: UNPROTECTED + (1 << 21)}[level]
    at(where, words.ldxr(5, 3)).enter().shows(SYNC, esr=DATA | TRANSLATION + level, hpfar=where >> 8)


UNPROTECTED_ABORTS = {
    "read": (NOT_MAPPED, words.ldr(5, 3), DATA | ISV | SAS_64 | SF | TRANSLATION + 3, ()),
    "write": (NOT_MAPPED, words.str_(5, 3), DATA | ISV | SAS_64 | SF | WNR | TRANSLATION + 3, (SECRET,)),
    "write of XZR": (NOT_MAPPED, words.str_(31, 3), DATA | ISV | SAS_64 | SF | WNR | TRANSLATION + 3, ()),
    "read of write-only memory": (WRITE_ONLY, words.ldr(5, 3), DATA | ISV | SAS_64 | SF | PERMISSION + 3, ()),
    "write of read-only memory": (
        READ_ONLY,
        words.str_(5, 3),
        DATA | ISV | SAS_64 | SF | WNR | PERMISSION + 3,
        (SECRET,),
    ),
}


@pytest.mark.parametrize(("ipa", "word", "esr", "gprs"), UNPROTECTED_ABORTS.values(), ids=UNPROTECTED_ABORTS)
def test_data_at_an_unprotected_address(ipa: int, word: int, esr: int, gprs: tuple[int, ...]) -> None:
    at(ipa + OFFSET, word).enter().shows(SYNC, esr=esr, far=OFFSET, hpfar=ipa >> 8, gprs=gprs)


@pytest.mark.parametrize("word", [word for name, word in LOADS.items() if name != "LDR"])
def test_data_at_an_unprotected_address_without_syndrome(word: int) -> None:
    kit = at(NOT_MAPPED + OFFSET, word)
    kit.enter().shows(SYNC, esr=DATA | TRANSLATION + 3, hpfar=NOT_MAPPED >> 8)
    assert kit.enter(flags=ENTER_EMUL_MMIO).x0 == 3
    vector, esr, far, _, _ = kit.handled(flags=ENTER_INJECT_SEA)
    assert (vector, esr >> 26, esr & (FSC | EA), far) == (EL1H_VECTOR, SAME_DATA, EXTERNAL | EA, NOT_MAPPED + OFFSET)


def test_a_mapping_made_meanwhile_is_used_by_the_access_that_aborted() -> None:
    kit = at(NOT_MAPPED, words.str_(5, 3))
    kit.enter()
    page = kit.page()
    kit.ok(Rmi.RTT_MAP_UNPROTECTED, kit.rd, NOT_MAPPED, 3, page | 6 << 2 | 3 << 6)
    kit.done()
    assert int.from_bytes(kit.read(page, 8), "little") == SECRET


@pytest.mark.parametrize("flags", [ENTER_INJECT_SEA, ENTER_INJECT_SEA | ENTER_EMUL_MMIO])
def test_the_host_refuses_an_access(flags: int) -> None:
    """inject_sea wins over emul_mmio: the exception is at the instruction, nothing is emulated."""
    kit = at(NOT_MAPPED + OFFSET, words.ldr(5, 3))
    kit.enter()
    pc = kit.context().pc
    vector, esr, far, elr, spsr = kit.handled(flags=flags, gprs=[1])
    assert (vector, esr >> 26, esr & (FSC | EA)) == (EL1H_VECTOR, SAME_DATA, EXTERNAL | EA)
    assert (far, elr, spsr) == (NOT_MAPPED + OFFSET, pc, MASKED_EL1H)
    assert kit.done().x[5] == SECRET


REALMS_OWN = {
    "EMPTY": (EMPTY, EXTERNAL | EA),
    "EMPTY with memory": (EMPTY_ASSIGNED, EXTERNAL | EA),
    "EMPTY block": (1 << 31, EXTERNAL | EA),
    "last Protected page": (UNPROTECTED - GRANULE_SIZE, EXTERNAL | EA),
    "outside": (OUTSIDE, 0),
    "far outside": (1 << 47, 0),
    "beyond any physical address": (1 << 48, 0),
}


@pytest.mark.parametrize(("ipa", "status"), REALMS_OWN.values(), ids=REALMS_OWN)
@pytest.mark.parametrize("word", [words.ldr(5, 3), words.str_(5, 3), words.ldxr(5, 3)], ids=["LDR", "STR", "LDXR"])
def test_data_that_never_concerns_the_host(ipa: int, status: int, word: int) -> None:
    kit = at(ipa + 8, word)
    vector, esr, far, elr, spsr = kit.handled()
    assert (vector, esr >> 26, esr & (FSC | EA), far) == (EL1H_VECTOR, SAME_DATA, status, ipa + 8)
    assert esr & WNR == (WNR if word == words.str_(5, 3) else 0)
    assert CODE < elr < CODE + 0x100
    assert spsr == MASKED_EL1H
    assert kit.done().x[5] == SECRET


NO_CODE = {**REALMS_OWN, "UNASSIGNED_NS": (NOT_MAPPED, EXTERNAL | EA), "ASSIGNED_NS": (MAPPED, EXTERNAL | EA)}


@pytest.mark.parametrize(("ipa", "status"), NO_CODE.values(), ids=NO_CODE)
def test_fetches_that_never_concern_the_host(ipa: int, status: int) -> None:
    kit = at(ipa, words.br(3))
    vector, esr, far, elr, _ = kit.handled()
    assert (vector, esr >> 26, esr & (FSC | EA)) == (EL1H_VECTOR, SAME_FETCH, status)
    assert (far, elr) == (ipa, ipa)


def test_an_access_over_the_boundary_between_the_halves() -> None:
    """Protected side there, Unprotected side not: an emulatable abort at the first Unprotected address."""
    last = UNPROTECTED - GRANULE_SIZE
    kit = Kit(
        program(words.mov(3, UNPROTECTED - 2), words.mov(5, SECRET), words.ldst(2, 0, 5, 3)),
        mapped={
            last: b"",
        },
    )
    kit.enter().shows(
        SYNC, esr=DATA | ISV | 2 << 22 | WNR | TRANSLATION + 3, hpfar=UNPROTECTED >> 8, gprs=(SECRET & 0xFFFF_FFFF,)
    )


def test_an_access_over_the_boundary_whose_protected_side_is_missing() -> None:
    last = UNPROTECTED - GRANULE_SIZE
    kit = Kit(program(words.mov(3, UNPROTECTED - 2), words.mov(5, SECRET), words.ldst(2, 0, 5, 3)), mapped={last: b""})
    kit.ok(Rmi.RTT_MAP_UNPROTECTED, kit.rd, UNPROTECTED, 3, kit.page() | 6 << 2 | 3 << 6)
    kit.ok(Rmi.DATA_DESTROY, kit.rd, last)
    kit.enter().shows(SYNC, esr=DATA | TRANSLATION + 3, hpfar=last >> 8)


@pytest.mark.parametrize("word", [words.ldr(5, 3), words.str_(5, 3)], ids=["LDR", "STR"])
def test_an_unprotected_mapping_of_memory_that_is_delegated(word: int) -> None:
    """The Host took it back: the Realm gets an abort, nothing reaches the granule, the Host sees nothing."""
    kit = at(MAPPED + OFFSET, word)
    kit.ok(Rmi.GRANULE_DELEGATE, kit.shared)
    vector, esr, far, _, _ = kit.handled()
    assert (vector, esr >> 26, far) == (EL1H_VECTOR, SAME_DATA, MAPPED + OFFSET)
    assert kit.done().x[5] == SECRET
    kit.ok(Rmi.GRANULE_UNDELEGATE, kit.shared)
    assert not any(kit.read(kit.shared, GRANULE_SIZE))
