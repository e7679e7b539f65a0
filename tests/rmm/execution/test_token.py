"""Attestation tokens: content, slices, interruptions, chunks (spec: attestation sections 1, 2, 4, 5, 8; rsi)."""

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from realmkit.arch.cose import p384_key, sig_structure
from realmkit.arch.events import Event, TokenIssued
from realmkit.arch.rmi import ExitReason
from realmkit.arch.rsi import Rsi
from realmkit.arch.time import TOKEN_SLICE, TOKEN_SLICES
from realmkit.rmm.state import AttestState, RealmAttestation
from tests.rmm.execution.running import BUFFER, DESTROYED, EMPTY, SECOND, SHARED, UNMAPPED, UNPROTECTED, Running

SUCCESS, INPUT, STATE, INCOMPLETE, UNKNOWN = range(5)
MASK64 = (1 << 64) - 1
CHALLENGE = tuple(0x0101_0101_0101_0101 * n for n in range(1, 9))
CHALLENGE_BYTES = b"".join(word.to_bytes(8, "little") for word in CHALLENGE)
RPV = bytes(range(64))
INIT, CONTINUE = Rsi.ATTESTATION_TOKEN_INIT, Rsi.ATTESTATION_TOKEN_CONTINUE


def attestation(platform_size: int = 1500) -> RealmAttestation:
    key = ec.derive_private_key(0x1234_5678_9ABC_DEF0, ec.SECP384R1())
    numbers = key.public_key().public_numbers()
    cose_key = p384_key(numbers.x.to_bytes(48, "big"), numbers.y.to_bytes(48, "big"))
    return RealmAttestation(key, cose_key, b"P" * platform_size)


def running(hash_algo: int = 0, platform_size: int = 1500) -> Running:
    bench = Running(2, hash_algo=hash_algo, rpv=RPV)
    bench.rmm.attestation = attestation(platform_size)
    bench.enter()
    return bench


def call(bench: Running, fid: int, *args: int) -> tuple[int, int]:
    """(X0, X1) of a call that returns to the Realm."""
    assert bench.smc(fid, *args) is None
    x = bench.context().x
    assert x[2:4] == [0, 0]
    return x[0], x[1]


def fetch(bench: Running, size: int = 4096) -> bytes:
    """The token in chunks of ``size`` bytes, as a guest collects it."""
    token = b""
    while True:
        status, length = call(bench, CONTINUE, BUFFER, 0, size)
        assert status in (SUCCESS, INCOMPLETE)
        assert length <= size
        token += bench.peek(BUFFER, length)
        if status == SUCCESS:
            return token


def decode(token: bytes) -> tuple[bytes, dict[int, Any], list[Any]]:
    """(platform token, realm claims, COSE_Sign1)."""
    outer = cbor2.loads(token)
    assert outer.tag == 399
    assert list(outer.value) == [44234, 44241]
    sign1 = cbor2.loads(outer.value[44241])
    assert sign1.tag == 18
    return outer.value[44234], cbor2.loads(sign1.value[2]), sign1.value


@pytest.mark.parametrize(("hash_algo", "name", "size"), [(0, "sha-256", 32), (1, "sha-512", 64)])
def test_content(hash_algo: int, name: str, size: int) -> None:
    bench = running(hash_algo)
    held = bench.rmm.attestation
    assert held is not None
    call(bench, Rsi.MEASUREMENT_EXTEND, 2, 4, 0xAABBCCDD)
    assert call(bench, INIT, *CHALLENGE) == (SUCCESS, 4096)
    platform, claims, (protected, unprotected, payload, signature) = decode(fetch(bench))
    realm = bench.rmm.realms[bench.rd]
    assert platform == held.platform_token
    assert list(claims) == [10, 44235, 44237, 44236, 44240, 265, 44238, 44239]
    assert claims == {
        10: CHALLENGE_BYTES,
        44235: RPV,
        44237: held.cose_key,
        44236: name,
        44240: "sha-256",
        265: "tag:arm.com,2023:realm#1.0.0",
        44238: realm.measurements[0][:size],
        44239: [value[:size] for value in realm.measurements[1:]],
    }
    assert any(claims[44239][1])
    assert (cbor2.loads(protected), unprotected, len(signature)) == ({1: -35}, {}, 96)
    der = encode_dss_signature(int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big"))
    held.key.public_key().verify(der, sig_structure(protected, payload), ec.ECDSA(hashes.SHA384()))


def test_the_same_inputs_give_the_same_bytes() -> None:
    tokens = []
    for _ in range(2):
        bench = running()
        call(bench, INIT, *CHALLENGE)
        tokens.append(fetch(bench))
    assert tokens[0] == tokens[1]


def test_measurements_are_those_of_init() -> None:
    bench = running()
    call(bench, INIT, *CHALLENGE)
    call(bench, Rsi.MEASUREMENT_EXTEND, 1, 8, 5)
    assert not any(decode(fetch(bench))[1][44239][0])


@pytest.mark.parametrize("size", [1, 7, 100, 1024, 4095])
def test_chunks_make_the_whole(size: int) -> None:
    whole = running()
    call(whole, INIT, *CHALLENGE)
    bench = running()
    call(bench, INIT, *CHALLENGE)
    assert fetch(bench, size) == fetch(whole)
    assert call(bench, CONTINUE, BUFFER, 0, 4096) == (STATE, 0)


def test_a_guest_fills_pages_by_offset() -> None:
    """A token of more than one page, collected as Linux does (attacks 43)."""
    bench = running(platform_size=6000)
    _, bound = call(bench, INIT, *CHALLENGE)
    assert bound == 8192
    pages, offset = [b""], 0
    while True:
        status, length = call(bench, CONTINUE, BUFFER, offset, min(1000, 4096 - offset))
        pages[-1] += bench.peek(BUFFER + offset, length) if length else b""
        offset += length
        if status == SUCCESS:
            break
        if offset == 4096:
            pages.append(b"")
            offset = 0
    assert len(pages) == 2
    token = b"".join(pages)
    assert len(token) <= bound
    assert len(decode(token)[0]) == 6000


def test_no_byte_outside_the_chunk_is_written() -> None:
    bench = running()
    bench.poke(BUFFER, b"\xee" * 4096)
    call(bench, INIT, *CHALLENGE)
    assert call(bench, CONTINUE, BUFFER, 100, 50) == (INCOMPLETE, 50)
    page = bench.peek(BUFFER)
    assert page[:100] == b"\xee" * 100
    assert page[150:] == b"\xee" * 3946
    assert page[100:150] != b"\xee" * 50


def test_size_zero_is_no_progress() -> None:
    """attacks 14."""
    bench = running()
    call(bench, INIT, *CHALLENGE)
    for _ in range(3):
        assert call(bench, CONTINUE, BUFFER, 4095, 0) == (INCOMPLETE, 0)
    assert decode(fetch(bench))[1][10] == CHALLENGE_BYTES


# ---- interruption ----


def test_signing_takes_time_once() -> None:
    bench = running()
    call(bench, INIT, *CHALLENGE)
    before = bench.port.now()
    call(bench, CONTINUE, BUFFER, 0, 10)
    first = bench.port.now() - before
    call(bench, CONTINUE, BUFFER, 0, 10)
    assert first >= TOKEN_SLICE * TOKEN_SLICES
    assert bench.port.now() - before - first < TOKEN_SLICE


def test_an_interrupt_comes_between_slices() -> None:
    """attacks 38: IRQ exit, INCOMPLETE with no bytes at the next entry, and the work that was done is not lost."""
    bench = running()
    call(bench, INIT, *CHALLENGE)
    charge = bench.port.charge
    exits = 0
    while True:
        started = bench.port.now()

        def one_slice(ticks: int, started: int = started) -> None:
            charge(ticks)
            bench.port.interrupt = bench.port.now() - started >= 5 * TOKEN_SLICE

        bench.port.charge = one_slice  # type: ignore[method-assign]
        record = bench.smc(CONTINUE, BUFFER, 0, 4096)
        bench.port.interrupt = False
        if record is None:
            break
        assert record.exit_reason == ExitReason.IRQ
        assert (record.esr, record.gprs) == (0, (0,) * 31)
        exits += 1
        bench.port.charge = charge  # type: ignore[method-assign]
        assert bench.enter().x[:4] == [INCOMPLETE, 0, 0, 0]
    assert exits == (TOKEN_SLICES - 1) // 5
    status, length = bench.context().x[:2]
    assert status == SUCCESS
    assert decode(bench.peek(BUFFER, length))[1][10] == CHALLENGE_BYTES


def test_no_slice_while_an_interrupt_is_pending() -> None:
    bench = running()
    call(bench, INIT, *CHALLENGE)
    bench.port.interrupt = True
    for _ in range(3):
        assert bench.smc(CONTINUE, BUFFER, 0, 4096) is not None
        assert bench.rec_state().token_slices == 0
        bench.enter()


def test_init_starts_again() -> None:
    """attacks 38: nothing of the discarded token is left."""
    bench = running()
    call(bench, INIT, *CHALLENGE)
    assert call(bench, CONTINUE, BUFFER, 0, 1000) == (INCOMPLETE, 1000)
    other = tuple(word ^ MASK64 for word in CHALLENGE)
    call(bench, INIT, *other)
    fresh = running()
    call(fresh, INIT, *other)
    assert fetch(bench) == fetch(fresh)


def test_each_rec_has_its_own_token() -> None:
    bench = running()
    bench.rec_state(1).runnable = True
    call(bench, INIT, *CHALLENGE)
    bench.interrupt()
    bench.enter(rec=1)
    ctx = bench.context(1)
    assert bench.smc(CONTINUE, BUFFER, 0, 16) is None
    assert ctx.x[0] == STATE


# ---- conditions ----


@pytest.mark.parametrize(
    ("addr", "offset", "size"),
    [
        (BUFFER + 8, 0, 16),
        (SHARED, 0, 16),
        (UNPROTECTED, 0, 16),
        (MASK64 & ~0xFFF, 0, 16),
        (BUFFER, 4096, 0),
        (BUFFER, MASK64, 1),
        (BUFFER, 0, 4097),
        (BUFFER, 4095, 2),
        (BUFFER, 1, MASK64),
        (EMPTY, 0, 16),
    ],
)
def test_continue_conditions(addr: int, offset: int, size: int) -> None:
    bench = running()
    call(bench, INIT, *CHALLENGE)
    before = bench.peek(BUFFER)
    assert call(bench, CONTINUE, addr, offset, size) == (INPUT, 0)
    assert bench.rec_state().token_slices == 0
    assert bench.peek(BUFFER) == before


def test_input_comes_before_state() -> None:
    bench = running()
    assert call(bench, CONTINUE, BUFFER, 0, 16) == (STATE, 0)
    assert call(bench, CONTINUE, BUFFER + 1, 0, 16) == (INPUT, 0)
    assert call(bench, CONTINUE, BUFFER, 4096, 16) == (INPUT, 0)


@pytest.mark.parametrize("ipa", [UNMAPPED, DESTROYED])
def test_a_page_that_is_not_there(ipa: int) -> None:
    """Nothing of the token is lost: the call is made again."""
    bench = running()
    call(bench, INIT, *CHALLENGE)
    head = call(bench, CONTINUE, BUFFER, 0, 64)
    assert head == (INCOMPLETE, 64)
    first = bench.peek(BUFFER, 64)
    record = bench.smc(CONTINUE, ipa, 0, 4096)
    assert record is not None
    assert (record.exit_reason, record.esr, record.hpfar) == (0, 0x24 << 26 | 7, ipa >> 8)
    assert bench.rec_state().token_cursor == 64
    bench.enter()
    status, length = call(bench, CONTINUE, SECOND, 0, 4096)
    assert status == SUCCESS
    assert decode(first + bench.peek(SECOND, length))[1][10] == CHALLENGE_BYTES


def test_without_a_platform_token_there_are_none() -> None:
    bench = running()
    bench.rmm.attestation = None
    assert call(bench, INIT, *CHALLENGE) == (UNKNOWN, 0)
    assert call(bench, CONTINUE, BUFFER, 0, 16) == (STATE, 0)


def test_the_last_chunk_is_an_event_and_ends_the_operation() -> None:
    bench = running()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    call(bench, INIT, *CHALLENGE)
    token = fetch(bench, 1000)
    issued = [event for event in events if isinstance(event, TokenIssued)]
    assert [(event.rd, event.rec, event.size) for event in issued] == [(bench.rd, bench.recs[0], len(token))]
    rec = bench.rec_state()
    assert (rec.attest_state, rec.token, rec.token_payload) == (AttestState.NONE, b"", b"")


def test_the_rak_never_reaches_memory() -> None:
    bench = running()
    call(bench, INIT, *CHALLENGE)
    fetch(bench)
    bench.interrupt()
    secret = (0x1234_5678_9ABC_DEF0).to_bytes(8, "big")
    assert not any(secret in bytes(page) for page in bench.bus.pages.values())
