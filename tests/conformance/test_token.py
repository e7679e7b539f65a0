"""Tokens that a running Realm asks for: slices, interrupts, pieces (spec: rsi section 3)."""

import struct

import pytest

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ExitReason, Rmi
from realmkit.arch.rsi import Rsi, RsiStatus
from realmkit.attestation import Expectations, TrustAnchor, verify
from tests.conformance import words
from tests.conformance.kit import RAM, UNMAPPED, UNPROTECTED, Kit, program
from tests.conformance.words import Code

CHALLENGE = tuple(range(1, 9))
NONCE = struct.pack("<8Q", *CHALLENGE)
INIT = words.call(Rsi.ATTESTATION_TOKEN_INIT, *CHALLENGE)
CONTINUE = Rsi.ATTESTATION_TOKEN_CONTINUE


def keep(first: int) -> Code:
    """Copy X0 and X1 to a pair of registers."""
    return [0xAA00_03E0 | first, 0xAA01_03E0 | first + 1]


def results(kit: Kit, *pairs: int) -> list[tuple[int, int]]:
    x = kit.context().x
    return [(x[first], x[first + 1]) for first in pairs]


def test_a_token_in_one_piece() -> None:
    """The size that INIT announces is enough; the token is for this challenge and this Realm."""
    kit = Kit(program(INIT, keep(19), words.call(CONTINUE, RAM, 0, GRANULE_SIZE), keep(21)))
    kit.done()
    (status, bound), (done, size) = results(kit, 19, 21)
    assert (status, done) == (0, RsiStatus.SUCCESS)
    assert 0 < size <= min(bound, GRANULE_SIZE)
    anchor = TrustAnchor.from_pem(kit.stack.trust_anchor_pem())
    rim = kit.stack.rmm.realms[kit.rd].measurements[0][:32]
    result = verify(kit.read_realm(RAM, size), trust_anchor=anchor, challenge=NONCE, expected=Expectations(rim=rim))
    assert all(check.ok for check in result.checks)


def test_an_interrupt_comes_first() -> None:
    """Exit by IRQ; at the next entry the call has returned INCOMPLETE with nothing, and goes on where it was."""
    again = words.call(CONTINUE, RAM, 0, GRANULE_SIZE)
    kit = Kit(program(INIT, keep(19), again, keep(21), again, keep(23)))
    kit.ticks(100_000).shows(ExitReason.IRQ)
    assert kit.context().x[:4] == [RsiStatus.INCOMPLETE, 0, 0, 0]
    kit.done()
    (_, _), first, (status, size) = results(kit, 19, 21, 23)
    assert first == (RsiStatus.INCOMPLETE, 0)
    assert status == RsiStatus.SUCCESS
    assert size


def test_pieces() -> None:
    """Of no bytes, of a few, of the rest; after the last there is no token any more."""
    calls = (
        (CONTINUE, RAM, 0, 0),
        (CONTINUE, RAM, 0, 16),
        (CONTINUE, RAM, 16, GRANULE_SIZE - 16),
        (CONTINUE, RAM, 0, 16),
    )
    code: Code = [*INIT, *keep(19)]
    for n, call in enumerate(calls):
        code += [*words.call(*call), *keep(21 + 2 * n)]
    kit = Kit(program(code))
    kit.done()
    none, few, (status, size), after = results(kit, 21, 23, 25, 27)
    assert none == (RsiStatus.INCOMPLETE, 0)
    assert few == (RsiStatus.INCOMPLETE, 16)
    assert status == RsiStatus.SUCCESS
    assert after == (RsiStatus.ERROR_STATE, 0)
    anchor = TrustAnchor.from_pem(kit.stack.trust_anchor_pem())
    token = kit.read_realm(RAM, 16 + size)
    assert verify(token, trust_anchor=anchor, challenge=NONCE, expected=Expectations()).checks


@pytest.mark.parametrize(
    ("address", "offset", "size"),
    [
        (RAM + 8, 0, 16),
        (UNPROTECTED, 0, 16),
        (RAM, GRANULE_SIZE, 0),
        (RAM, 1, GRANULE_SIZE),
        (RAM, 16, (1 << 64) - 8),
        (RAM, (1 << 64) - 8, 16),
        (0x10_0000, 0, 16),
    ],
)
@pytest.mark.parametrize("started", [False, True])
def test_bad_places(address: int, offset: int, size: int, started: bool) -> None:
    """Whether or not a token is in progress; one that is stays so."""
    then = [*words.call(CONTINUE, RAM, 0, GRANULE_SIZE), *keep(21)]
    kit = Kit(program(INIT if started else [], words.call(CONTINUE, address, offset, size), keep(19), then))
    kit.done()
    bad, good = results(kit, 19, 21)
    empty = address == 0x10_0000 and not started
    assert bad == (RsiStatus.ERROR_STATE if empty else RsiStatus.ERROR_INPUT, 0)
    assert good[0] == (RsiStatus.SUCCESS if started else RsiStatus.ERROR_STATE)


def test_a_page_that_the_host_must_provide() -> None:
    kit = Kit(program(INIT, words.call(CONTINUE, UNMAPPED, 0, GRANULE_SIZE), keep(19)))
    kit.enter().shows(ExitReason.SYNC, esr=0x24 << 26 | 7, hpfar=UNMAPPED >> 8)
    kit.ok(Rmi.DATA_CREATE_UNKNOWN, kit.rd, kit.granule(), UNMAPPED)
    kit.done()
    ((status, size),) = results(kit, 19)
    assert status == RsiStatus.SUCCESS
    assert size
