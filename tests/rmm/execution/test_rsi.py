"""RSI commands: conditions, results, registers, events (spec: rsi)."""

import hashlib

import pytest

from realmkit.arch.events import Call, Event
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import Ripas, Rmi
from realmkit.arch.rsi import OUTPUTS, RealmConfig, Rsi
from realmkit.arch.smccc import NOT_SUPPORTED, RSI_RANGE, SVE_HINT
from realmkit.arch.time import CHARGE_RSI
from tests.rmm.execution.running import (
    BUFFER,
    CODE,
    DESTROYED,
    EMPTY,
    EMPTY_BLOCK,
    IPA_WIDTH,
    OUTSIDE,
    SECOND,
    SHARED,
    UNMAPPED,
    UNPROTECTED,
    Running,
)

SUCCESS, INPUT, STATE, INCOMPLETE, UNKNOWN = range(5)
MASK64 = (1 << 64) - 1
SECRET = [0xBEEF_0000 + n for n in range(31)]


def running(hash_algo: int = 0, rpv: bytes = bytes(64)) -> Running:
    bench = Running(hash_algo=hash_algo, rpv=rpv)
    bench.enter().x[:] = SECRET
    return bench


def call(bench: Running, fid: int, *args: int) -> list[int]:
    """A call that returns to the Realm: X0-X3."""
    pc = bench.context().pc
    assert bench.smc(fid, *args) is None
    assert bench.context().pc == pc + 4
    return bench.context().x[:4]


# ---- registers and dispatch ----


@pytest.mark.parametrize(
    ("fid", "args"),
    [
        (Rsi.VERSION, (0x1_0000,)),
        (Rsi.FEATURES, (0,)),
        (Rsi.MEASUREMENT_EXTEND, (1, 0)),
        (Rsi.REALM_CONFIG, (BUFFER,)),
        (Rsi.REALM_CONFIG, (1,)),
        (Rsi.IPA_STATE_GET, (0, 0x1000)),
        (Rsi.IPA_STATE_GET, (1, 0)),
        (Rsi.ATTESTATION_TOKEN_CONTINUE, (BUFFER, 0, 0)),
        (0xC400_019A, ()),
        (0xC400_01AF, ()),
    ],
)
def test_registers_that_a_call_does_not_return_are_kept(fid: int, args: tuple[int, ...]) -> None:
    """attacks 9: X4 and up stay; X1 to X3 are zero unless they are outputs."""
    bench = running()
    x = call(bench, fid, *args)
    outputs = len(OUTPUTS.get(Rsi(fid), ())) if fid in tuple(Rsi) else 0
    if x[0]:
        outputs = 0
    assert x[1 + outputs :] == [0] * (3 - outputs)
    assert bench.context().x[4:] == SECRET[4:]


@pytest.mark.parametrize("fid", sorted(set(RSI_RANGE) - set(Rsi)))
def test_unallocated_calls(fid: int) -> None:
    assert call(running(), fid, 1, 2, 3) == [NOT_SUPPORTED, 0, 0, 0]


@pytest.mark.parametrize("fid", [0x8000_0001, 0xC400_0150, 0xC400_01B0, 0xC400_01CF, 0x8600_FF01, 0, MASK64])
def test_calls_to_others_are_not_supported(fid: int) -> None:
    assert call(running(), fid, 1, 2, 3) == [NOT_SUPPORTED, 0, 0, 0]


def test_smccc_version() -> None:
    assert call(running(), 0x8000_0000) == [0x1_0002, 0, 0, 0]


@pytest.mark.parametrize("extra", [SVE_HINT, 1 << 32, MASK64 << 32 & MASK64 | SVE_HINT])
def test_function_identifiers_are_32_bits_without_the_sve_hint(extra: int) -> None:
    """attacks 37."""
    assert call(running(), Rsi.VERSION | extra, 0x1_0000) == [0, 0x1_0000, 0x1_0000, 0]


def test_every_call_takes_time() -> None:
    bench = running()
    before = bench.port.now()
    call(bench, Rsi.FEATURES, 0)
    call(bench, 0x8000_0000)
    assert bench.port.now() - before == 2 * CHARGE_RSI


# ---- VERSION, FEATURES ----


@pytest.mark.parametrize(
    ("requested", "status"),
    [(0x1_0000, SUCCESS), (0, INPUT), (0xFFFF, INPUT), (0x1_0001, INPUT), (0x2_0000, INPUT), (MASK64, INPUT)],
)
def test_version(requested: int, status: int) -> None:
    assert call(running(), Rsi.VERSION, requested) == [status, 0x1_0000, 0x1_0000, 0]


@pytest.mark.parametrize("index", [0, 1, MASK64])
def test_features(index: int) -> None:
    assert call(running(), Rsi.FEATURES, index) == [SUCCESS, 0, 0, 0]


# ---- measurements ----


def measurement(bench: Running, index: int) -> bytes:
    call(bench, Rsi.MEASUREMENT_READ, index)
    ctx = bench.context()
    assert ctx.x[0] == SUCCESS
    return b"".join(word.to_bytes(8, "little") for word in ctx.x[1:9])


@pytest.mark.parametrize(("hash_algo", "size"), [(0, 32), (1, 64)])
def test_measurement_read(hash_algo: int, size: int) -> None:
    """attacks 38: byte 0 of the digest is X1[7:0], a shorter digest ends in zeros, X9 and up are kept."""
    bench = running(hash_algo)
    rim = bench.rmm.realms[bench.rd].measurements[0]
    assert any(rim[size - 8 : size])
    assert measurement(bench, 0) == rim
    assert rim[size:] == bytes(64 - size)
    assert bench.context().x[9:] == SECRET[9:]
    for index in range(1, 5):
        assert measurement(bench, index) == bytes(64)


@pytest.mark.parametrize("index", [5, 1 << 32, MASK64])
def test_measurement_read_index(index: int) -> None:
    assert call(running(), Rsi.MEASUREMENT_READ, index) == [INPUT, 0, 0, 0]


@pytest.mark.parametrize(("hash_algo", "name"), [(0, "sha256"), (1, "sha512")])
@pytest.mark.parametrize("size", [0, 1, 8, 33, 63, 64])
def test_measurement_extend(hash_algo: int, name: str, size: int) -> None:
    bench = running(hash_algo)
    value = bytes(range(1, 65))
    words = [int.from_bytes(value[n : n + 8], "little") for n in range(0, 64, 8)]
    expected = bytes(hashlib.new(name).digest_size)
    for _ in range(2):
        assert call(bench, Rsi.MEASUREMENT_EXTEND, 3, size, *words)[0] == SUCCESS
        expected = hashlib.new(name, expected + value[:size]).digest()
    assert measurement(bench, 3) == expected.ljust(64, b"\0")
    for index in (1, 2, 4):
        assert not any(measurement(bench, index))


@pytest.mark.parametrize(("index", "size"), [(0, 1), (5, 1), (MASK64, 1), (1, 65), (1, MASK64)])
def test_measurement_extend_conditions(index: int, size: int) -> None:
    bench = running()
    before = list(bench.rmm.realms[bench.rd].measurements)
    assert call(bench, Rsi.MEASUREMENT_EXTEND, index, size, 1)[0] == INPUT
    assert bench.rmm.realms[bench.rd].measurements == before


# ---- REALM_CONFIG ----


def test_realm_config() -> None:
    rpv = bytes(range(64))
    bench = running(1, rpv)
    bench.poke(BUFFER, b"\xff" * 4096)
    assert call(bench, Rsi.REALM_CONFIG, BUFFER) == [SUCCESS, 0, 0, 0]
    page = bench.peek(BUFFER)
    assert page[:16] == (IPA_WIDTH).to_bytes(8, "little") + (1).to_bytes(8, "little")
    assert page[0x200:0x240] == rpv
    assert not any(page[16:0x200])
    assert not any(page[0x240:])
    assert RealmConfig.unpack(page).ipa_width == IPA_WIDTH


BAD_PAGES = {
    "unaligned": BUFFER + 8,
    "Unprotected": SHARED,
    "first Unprotected": UNPROTECTED,
    "outside": OUTSIDE,
    "end of the address space": MASK64 & ~0xFFF,
    "EMPTY": EMPTY,
    "EMPTY block": EMPTY_BLOCK,
}


@pytest.mark.parametrize("addr", BAD_PAGES.values(), ids=BAD_PAGES)
@pytest.mark.parametrize("fid", [Rsi.REALM_CONFIG, Rsi.HOST_CALL])
def test_buffers_that_cannot_be_used(fid: Rsi, addr: int) -> None:
    bench = running()
    before = bench.snapshot()
    assert call(bench, fid, addr) == [INPUT, 0, 0, 0]
    assert bench.snapshot() == before
    assert bench.rec_state().host_call_ipa is None


def test_a_buffer_is_not_written_through_a_stale_mapping() -> None:
    """The Host replaces the page: the write goes where the tables lead now."""
    bench = running()
    old = bench.pa(BUFFER)
    bench.ok(Rmi.DATA_DESTROY, bench.rd, BUFFER)
    bench.ok(Rmi.GRANULE_UNDELEGATE, old)
    record = bench.smc(Rsi.REALM_CONFIG, BUFFER)
    assert record is not None
    assert not any(bench.bus.read(Pas.NS, old, 4096))


# ---- IPA_STATE ----

RANGES = {
    "unaligned base": (BUFFER + 1, BUFFER + 0x1000),
    "unaligned top": (BUFFER, BUFFER + 0x1001),
    "empty": (BUFFER, BUFFER),
    "backwards": (BUFFER + 0x1000, BUFFER),
    "Unprotected": (UNPROTECTED, UNPROTECTED + 0x1000),
    "across the halves": (UNPROTECTED - 0x1000, UNPROTECTED + 0x1000),
    "outside": (OUTSIDE, OUTSIDE + 0x1000),
    "end of the address space": (MASK64 & ~0x1FFF, MASK64 & ~0xFFF),
}


@pytest.mark.parametrize(("base", "top"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("fid", [Rsi.IPA_STATE_GET, Rsi.IPA_STATE_SET])
def test_ranges_that_cannot_be_used(fid: Rsi, base: int, top: int) -> None:
    bench = running()
    assert call(bench, fid, base, top, 0, 0)[:3] == [INPUT, 0, 0]
    assert bench.rec_state().ripas is None


@pytest.mark.parametrize("ripas", [2, 3, 255])
def test_ipa_state_set_ripas(ripas: int) -> None:
    """attacks 26."""
    assert call(running(), Rsi.IPA_STATE_SET, BUFFER, BUFFER + 0x1000, ripas, 0) == [INPUT, 0, 0, 0]


def test_bits_of_ipa_state_set_that_are_not_defined_are_ignored() -> None:
    bench = running()
    record = bench.smc(Rsi.IPA_STATE_SET, BUFFER, BUFFER + 0x1000, 0xAB00, MASK64 - 1)
    assert record is not None
    assert record.ripas_value == 0
    request = bench.rec_state().ripas
    assert request is not None
    assert request.change_destroyed is False


@pytest.mark.parametrize(("flags", "reached"), [(0, DESTROYED), (1, DESTROYED + 0x1000)])
def test_destroyed_pages_change_only_with_permission(flags: int, reached: int) -> None:
    bench = running()
    top = DESTROYED + 0x1000
    bench.smc(Rsi.IPA_STATE_SET, UNMAPPED, top, 0, flags)
    assert bench.ok(Rmi.RTT_SET_RIPAS, bench.rd, bench.recs[0], UNMAPPED, top)[0] == reached
    assert bench.enter().x[:3] == [SUCCESS, reached, 0]


@pytest.mark.parametrize(
    ("base", "top", "out_top", "ripas"),
    [
        (BUFFER, UNMAPPED, UNMAPPED, Ripas.RAM),
        (BUFFER, 0x10_0000, DESTROYED, Ripas.RAM),
        (DESTROYED, 0x10_0000, DESTROYED + 0x1000, Ripas.DESTROYED),
        (EMPTY, 0x40_0000, 0x20_0000, Ripas.EMPTY),
        (EMPTY_BLOCK + 0x3000, EMPTY_BLOCK + 0x5000, EMPTY_BLOCK + 0x5000, Ripas.EMPTY),
        (UNPROTECTED - 0x1000, UNPROTECTED, UNPROTECTED, Ripas.EMPTY),
    ],
)
def test_ipa_state_get(base: int, top: int, out_top: int, ripas: Ripas) -> None:
    assert call(running(), Rsi.IPA_STATE_GET, base, top) == [SUCCESS, out_top, ripas, 0]


# ---- HOST_CALL ----


@pytest.mark.parametrize("offset", [0, 0x100, 0xF00])
def test_host_call_addresses(offset: int) -> None:
    bench = running()
    bench.poke(SECOND + offset, b"\x07")
    record = bench.smc(Rsi.HOST_CALL, SECOND + offset)
    assert record is not None
    assert record.imm == 7


@pytest.mark.parametrize("addr", [SECOND + 8, SECOND + 0x80, UNPROTECTED - 0x80])
def test_host_call_alignment(addr: int) -> None:
    assert call(running(), Rsi.HOST_CALL, addr) == [INPUT, 0, 0, 0]


# ---- events ----


def test_events_carry_names_and_labels() -> None:
    bench = running()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    call(bench, Rsi.VERSION, 0x1_0000)
    call(bench, Rsi.REALM_CONFIG, 1)
    call(bench, Rsi.REALM_CONFIG, EMPTY)
    call(bench, 0xC400_01A0)
    bench.smc(Rsi.HOST_CALL, BUFFER)
    calls = [event for event in events if isinstance(event, Call) and event.interface == "rsi"]
    assert [(event.name, event.status, event.refused) for event in calls] == [
        ("VERSION", "RSI_SUCCESS", None),
        ("REALM_CONFIG", "RSI_ERROR_INPUT", "addr_align"),
        ("REALM_CONFIG", "RSI_ERROR_INPUT", "addr_empty"),
        ("0xc40001a0", "NOT_SUPPORTED", None),
        ("HOST_CALL", "RSI_SUCCESS", None),
    ]
    assert calls[0].arguments == {"req": 0x1_0000}
    assert calls[0].results == {"lower": 0x1_0000, "higher": 0x1_0000}


def test_pc_moves_past_the_smc() -> None:
    bench = running()
    call(bench, Rsi.VERSION, 0)
    assert bench.context().pc == CODE + 4
