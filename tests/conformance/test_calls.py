"""SMCs of a running Realm: RSI, PSCI, unknown functions, and the exits that they cause (spec: rsi, rec-run 11)."""

import struct

import pytest

from realmkit.arch import psci
from realmkit.arch.esr import Ec
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import ENTER_RIPAS_REJECT, ExitReason, Ripas, Rmi
from realmkit.arch.rsi import Rsi, RsiStatus
from realmkit.arch.smccc import MASK64, SVE_HINT
from tests.conformance import words
from tests.conformance.kit import CODE, DESTROYED, EMPTY, RAM, UNMAPPED, UNPROTECTED, Kit, program
from tests.conformance.words import Code

SAVED = 19
"""First of the registers into which programs copy X0-X8, out of the way of the host call at their end."""
FILL = 0x5A5A_0000
ENTRY = 0x9000
NOT_SUPPORTED = MASK64


def result(count: int = 9) -> Code:
    """Copy X0.. to X19.. (ORR Xd, XZR, Xm)."""
    return [0xAA00_03E0 | register << 16 | SAVED + register for register in range(count)]


def called(fid: int, *arguments: int, kit: Kit | None = None) -> list[int]:
    """X0-X8 after an SMC that returns to the Realm at once; registers that are no arguments hold a pattern."""
    kit = Kit(call_program(fid, *arguments)) if kit is None else kit
    return kit.done().x[SAVED : SAVED + 9]


def call_program(fid: int, *arguments: int) -> Code:
    fill = [word for register in range(9) for word in words.mov(register, FILL | register)]
    return program(fill, words.call(fid, *arguments), result())


def fill(first: int) -> list[int]:
    return [FILL | register for register in range(first, 9)]


# ---- what is not a call ----

UNKNOWN = {
    "RSI, unallocated": 0xC400_019A,
    "RSI, last": 0xC400_01AF,
    "RSI, 32 bits": 0x8400_0190,
    "RMI": Rmi.VERSION,
    "RMM-EL3": 0xC400_01B0,
    "PSCI, unallocated": 0x8400_001F,
    "PSCI MIGRATE_INFO_TYPE": psci.MIGRATE_INFO_TYPE,
    "PSCI SYSTEM_SUSPEND": 0xC400_000E,
    "SMCCC_ARCH_FEATURES": 0x8000_0001,
    "vendor hypervisor UID": 0x8600_FF01,
    "FF-A": 0x8400_0063,
    "TRNG": 0x8400_0050,
    "zero": 0,
    "all ones": MASK64,
}


@pytest.mark.parametrize("fid", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_functions_return_not_supported(fid: int) -> None:
    assert called(fid) == [NOT_SUPPORTED, 0, 0, 0, *fill(4)]


def test_the_sve_hint_and_the_upper_half_of_x0_do_not_matter() -> None:
    for fid in (Rsi.VERSION | SVE_HINT, Rsi.VERSION | 0xABCD << 32):
        assert called(fid, 0x1_0000) == [0, 0x1_0000, 0x1_0000, 0, *fill(4)]


def test_smccc_version() -> None:
    assert called(0x8000_0000) == [0x1_0002, 0, 0, 0, *fill(4)]


def test_hvc_is_unknown_and_says_so_at_the_instruction() -> None:
    kit = Kit(program(words.mov(0, Rsi.VERSION), words.HVC))
    vector, esr, _, elr, _ = kit.handled()
    assert (vector, esr) == (0x200, 1 << 25)
    assert kit.read_realm(elr, 4) == struct.pack("<I", words.HVC)
    kit.done()


# ---- RSI ----


@pytest.mark.parametrize(
    ("requested", "status"), [(0x1_0000, 0), (0x1_0001, 1), (0x2_0000, 1), (0, 1), (1 << 31 | 0x1_0000, 1), (MASK64, 1)]
)
def test_version(requested: int, status: int) -> None:
    assert called(Rsi.VERSION, requested) == [status, 0x1_0000, 0x1_0000, 0, *fill(4)]


@pytest.mark.parametrize("index", [0, 1, MASK64])
def test_features(index: int) -> None:
    assert called(Rsi.FEATURES, index) == [0, 0, 0, 0, *fill(4)]


@pytest.mark.parametrize(("index", "status"), [(0, 0), (4, 0), (5, 1), (MASK64, 1)])
def test_measurement_read(index: int, status: int) -> None:
    """Nine registers on success: SHA-256 fills four of the eight."""
    x = called(Rsi.MEASUREMENT_READ, index)
    assert x[0] == status
    if status:
        assert x == [1, 0, 0, 0, *fill(4)]
    else:
        assert x[5:] == [0] * 4
        assert any(x[1:5]) == (index == 0)


@pytest.mark.parametrize(
    ("index", "size", "status"), [(0, 8, 1), (1, 65, 1), (5, 8, 1), (1, 0, 0), (4, 64, 0), (1, MASK64, 1)]
)
def test_measurement_extend(index: int, size: int, status: int) -> None:
    assert called(Rsi.MEASUREMENT_EXTEND, index, size) == [status, 0, 0, 0, *fill(4)]


INPUT = [RsiStatus.ERROR_INPUT, 0, 0, 0, *fill(4)]
BAD_ADDRESSES = {
    "byte": RAM + 1,
    "half": RAM + 0x800,
    "Unprotected": UNPROTECTED,
    "outside": 1 << 40,
    "last": MASK64 & ~0xFFF,
    "EMPTY": EMPTY,
}


@pytest.mark.parametrize("address", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
def test_realm_config_at_a_bad_address(address: int) -> None:
    assert called(Rsi.REALM_CONFIG, address) == INPUT


def test_realm_config() -> None:
    kit = Kit(call_program(Rsi.REALM_CONFIG, RAM), rpv=bytes(range(64)), hash_algo=1)
    assert called(0, kit=kit) == [0, 0, 0, 0, *fill(4)]
    page = kit.read_realm(RAM, GRANULE_SIZE)
    assert page == struct.pack("<QB", 39, 1).ljust(0x200, b"\0") + bytes(range(64)).ljust(0xE00, b"\0")


@pytest.mark.parametrize(
    "address", [a + (0x10 if a == RAM + 1 else 0) for a in BAD_ADDRESSES.values() if a & 0xFF or a >> 38]
)
def test_host_call_at_a_bad_address(address: int) -> None:
    assert called(Rsi.HOST_CALL, address) == INPUT


def test_a_host_call_is_a_structure_of_256_bytes_anywhere_in_a_page() -> None:
    last = RAM + GRANULE_SIZE - 0x100
    code = [*words.mov(1, last), *words.mov(2, 0xABCD), words.str_(2, 1), *words.mov(2, 77), words.str_(2, 1, 31)]
    kit = Kit(program(code, words.call(Rsi.HOST_CALL, last), result()))
    kit.enter().shows(ExitReason.HOST_CALL, imm=0xABCD, gprs=(*(0,) * 30, 77))
    answer = [n << 32 | 0xAA for n in range(31)]
    assert kit.done(gprs=answer).x[SAVED : SAVED + 4] == [0, 0, 0, 0]
    assert struct.unpack("<32Q", kit.read_realm(last, 0x100)) == (0xABCD, *answer)


@pytest.mark.parametrize(("ipa", "level"), [(UNMAPPED, 3), (DESTROYED, 3)])
@pytest.mark.parametrize("fid", [Rsi.REALM_CONFIG, Rsi.HOST_CALL])
def test_a_buffer_that_the_host_must_provide(fid: int, ipa: int, level: int) -> None:
    """A data abort of the RMM's own making; then the same SMC is made again."""
    kit = Kit(call_program(fid, ipa))
    kit.enter().shows(ExitReason.SYNC, esr=Ec.DABT_LOWER << 26 | 4 + level, hpfar=ipa >> 8)
    assert kit.read_realm(kit.context().pc, 4) == struct.pack("<I", words.SMC)
    if ipa == DESTROYED:
        return
    kit.ok(Rmi.DATA_CREATE_UNKNOWN, kit.rd, kit.granule(), ipa)
    if fid == Rsi.HOST_CALL:
        kit.enter().shows(ExitReason.HOST_CALL)
    assert kit.done().x[SAVED] == 0


def test_a_host_call_whose_page_goes_away_before_the_answer() -> None:
    """No instruction is executed and the call stays pending until the page is there."""
    kit = Kit(call_program(Rsi.HOST_CALL, RAM))
    kit.enter().shows(ExitReason.HOST_CALL)
    pc = kit.context().pc
    kit.ok(Rmi.DATA_DESTROY, kit.rd, RAM)
    for _ in range(2):
        kit.enter(gprs=[1, 2, 3]).shows(ExitReason.SYNC, esr=Ec.DABT_LOWER << 26 | 7, hpfar=RAM >> 8)
        assert kit.context().pc == pc
    kit.ok(Rmi.DATA_CREATE_UNKNOWN, kit.rd, kit.granule(), RAM)
    kit.enter(gprs=[1, 2, 3]).shows(ExitReason.SYNC, esr=Ec.DABT_LOWER << 26 | 7, hpfar=RAM >> 8)


# ---- RIPAS ----


@pytest.mark.parametrize(
    ("base", "top", "ripas"),
    [
        (RAM + 1, RAM + 0x1000, 0),
        (RAM, RAM + 0x800, 0),
        (RAM, RAM, 0),
        (RAM + 0x1000, RAM, 0),
        (UNPROTECTED - 0x1000, UNPROTECTED + 0x1000, 0),
        (UNPROTECTED, UNPROTECTED + 0x1000, 0),
        (RAM, RAM + 0x1000, 2),
        (RAM, RAM + 0x1000, 3),
        (0, MASK64 & ~0xFFF, 1),
    ],
)
def test_requests_that_are_refused(base: int, top: int, ripas: int) -> None:
    assert called(Rsi.IPA_STATE_SET, base, top, ripas, 0) == [1, 0, 0, 0, 0, *fill(5)], "X4 is an argument"
    assert called(Rsi.IPA_STATE_GET, base, top)[0] == (1 if ripas < 2 else 0)


def ripas_kit(base: int, top: int, value: Ripas, flags: int = 0) -> Kit:
    return Kit(call_program(Rsi.IPA_STATE_SET, base, top, value, flags))


def test_a_change_in_parts() -> None:
    """Nothing, then a page, then all: each answer says how far the Host went."""
    top = RAM + 2 * GRANULE_SIZE
    for pages in range(3):
        kit = ripas_kit(RAM, top, Ripas.EMPTY)
        kit.enter().shows(ExitReason.RIPAS_CHANGE, ripas_base=RAM, ripas_top=top, ripas_value=0)
        if pages:
            end = RAM + pages * GRANULE_SIZE
            assert kit.ok(Rmi.RTT_SET_RIPAS, kit.rd, kit.recs[0], RAM, end)[1] == end
        x = kit.done(flags=ENTER_RIPAS_REJECT).x[SAVED : SAVED + 4]
        assert x == [0, RAM + pages * GRANULE_SIZE, 0, 0], "the Host cannot reject EMPTY"
        assert kit.call(Rmi.RTT_SET_RIPAS, kit.rd, kit.recs[0], RAM, top)[0] == 1, "no request is left"


@pytest.mark.parametrize(("pages", "rejected"), [(0, 1), (1, 1), (2, 0)])
def test_a_change_to_ram_that_the_host_rejects(pages: int, rejected: int) -> None:
    top = EMPTY + 2 * GRANULE_SIZE
    kit = ripas_kit(EMPTY, top, Ripas.RAM)
    kit.enter().shows(ExitReason.RIPAS_CHANGE, ripas_base=EMPTY, ripas_top=top, ripas_value=1)
    if pages:
        kit.ok(Rmi.RTT_SET_RIPAS, kit.rd, kit.recs[0], EMPTY, EMPTY + pages * GRANULE_SIZE)
    assert kit.done(flags=ENTER_RIPAS_REJECT).x[SAVED : SAVED + 3] == [0, EMPTY + pages * GRANULE_SIZE, rejected]


@pytest.mark.parametrize(("flags", "x0", "reached"), [(0, 0x304, DESTROYED), (1, 0, DESTROYED + GRANULE_SIZE)])
def test_destroyed_pages_change_only_if_the_realm_says_so(flags: int, x0: int, reached: int) -> None:
    kit = ripas_kit(DESTROYED, DESTROYED + GRANULE_SIZE, Ripas.RAM, flags)
    kit.enter()
    assert kit.call(Rmi.RTT_SET_RIPAS, kit.rd, kit.recs[0], DESTROYED, DESTROYED + GRANULE_SIZE)[0] == x0
    assert kit.done().x[SAVED : SAVED + 3] == [0, reached, 0]


@pytest.mark.parametrize(
    ("base", "ripas", "out"),
    [(CODE, Ripas.RAM, DESTROYED), (DESTROYED, Ripas.DESTROYED, DESTROYED + 0x1000), (EMPTY, Ripas.EMPTY, 1 << 21)],
)
def test_ipa_state_get(base: int, ripas: Ripas, out: int) -> None:
    assert called(Rsi.IPA_STATE_GET, base, 1 << 21) == [0, out, ripas, 0, *fill(4)]


# ---- PSCI ----


@pytest.mark.parametrize(
    ("fid", "known"),
    [
        (psci.CPU_SUSPEND, 1),
        (psci.CPU_OFF, 1),
        (psci.CPU_ON, 1),
        (psci.AFFINITY_INFO, 1),
        (psci.SYSTEM_OFF, 1),
        (psci.SYSTEM_RESET, 1),
        (psci.FEATURES, 1),
        (0x8000_0000, 1),
        (0x8400_000B, 0),
        (Rsi.VERSION, 0),
    ],
)
def test_psci_features(fid: int, known: int) -> None:
    assert called(psci.FEATURES, fid) == [0 if known else NOT_SUPPORTED, 0, 0, 0, *fill(4)]


def test_psci_version() -> None:
    assert called(psci.VERSION) == [0x1_0001, 0, 0, 0, *fill(4)]


@pytest.mark.parametrize("fid", [psci.CPU_SUSPEND, psci.CPU_SUSPEND_32])
def test_cpu_suspend(fid: int) -> None:
    kit = Kit(call_program(fid, 1, 2, 3))
    kit.enter().shows(ExitReason.PSCI, gprs=(fid,))
    assert called(0, kit=kit) == [0, 0, 0, 0, *fill(4)]


@pytest.mark.parametrize("fid", [psci.SYSTEM_OFF, psci.SYSTEM_RESET])
def test_the_end_of_a_realm(fid: int) -> None:
    kit = Kit(call_program(fid), recs=2)
    kit.enter().shows(ExitReason.PSCI, gprs=(fid,))
    assert [kit.enter(rec=rec).x0 for rec in (0, 1)] == [0x102, 0x102]
    assert kit.call(Rmi.REALM_ACTIVATE, kit.rd)[0] == 2


LOCAL = {
    "CPU_ON, entry is Unprotected": (psci.CPU_ON, (1, UNPROTECTED, 0), PsciStatus.INVALID_ADDRESS),
    "CPU_ON, entry is outside": (psci.CPU_ON, (1, 1 << 60, 0), PsciStatus.INVALID_ADDRESS),
    "CPU_ON, nobody": (psci.CPU_ON, (2, ENTRY, 0), PsciStatus.INVALID_PARAMETERS),
    "CPU_ON, nobody, Aff3": (psci.CPU_ON, (1 | 1 << 32, ENTRY, 0), PsciStatus.INVALID_PARAMETERS),
    "CPU_ON, self": (psci.CPU_ON, (0, ENTRY, 0), PsciStatus.ALREADY_ON),
    "AFFINITY_INFO, level": (psci.AFFINITY_INFO, (1, 1), PsciStatus.INVALID_PARAMETERS),
    "AFFINITY_INFO, nobody": (psci.AFFINITY_INFO, (0x100, 0), PsciStatus.INVALID_PARAMETERS),
    "AFFINITY_INFO, self": (psci.AFFINITY_INFO, (0, 0), PsciStatus.SUCCESS),
}


@pytest.mark.parametrize(("fid", "arguments", "status"), LOCAL.values(), ids=LOCAL)
def test_psci_calls_that_the_rmm_answers(fid: int, arguments: tuple[int, ...], status: PsciStatus) -> None:
    kit = Kit(call_program(fid, *arguments), recs=2)
    assert called(0, kit=kit) == [status.x0, 0, 0, 0, *fill(4)]


def second(entry_code: Code) -> dict[int, bytes]:
    return {ENTRY: struct.pack(f"<{len(entry_code)}I", *entry_code)}


@pytest.mark.parametrize("fid", [psci.CPU_ON, psci.CPU_ON_32])
def test_cpu_on(fid: int) -> None:
    """The target starts as after reset, with the caller's context in X0 and nothing of the Host in the others."""
    code = [*result(), words.mrs(28, "CurrentEL"), words.mrs(29, "MPIDR_EL1"), *words.call(psci.CPU_OFF), words.HERE]
    kit = Kit(call_program(fid, 1, ENTRY, 0xC0DE), recs=2, mapped=second(code))
    assert kit.enter(rec=1).x0 == 3, "not runnable"
    kit.enter().shows(ExitReason.PSCI, gprs=(fid, 1))
    assert kit.enter().x0 == 3, "the request is pending"
    kit.ok(Rmi.PSCI_COMPLETE, kit.recs[0], kit.recs[1], 0)
    assert called(0, kit=kit) == [0, 0, 0, 0, *fill(4)]
    kit.enter(rec=1).shows(ExitReason.PSCI, gprs=(psci.CPU_OFF,))
    x = kit.context(1).x
    assert x[SAVED : SAVED + 9] == [0xC0DE, *[0] * 8]
    assert x[28:30] == [4, 1 << 31 | 1]
    assert kit.enter(rec=1).x0 == 3, "off again"


@pytest.mark.parametrize(
    ("status", "x0"), [(0, PsciStatus.SUCCESS), (PsciStatus.DENIED.x0, PsciStatus.DENIED)], ids=["done", "denied"]
)
def test_the_host_answers_cpu_on(status: int, x0: PsciStatus) -> None:
    kit = Kit(call_program(psci.CPU_ON, 1, ENTRY, 0), recs=3, mapped=second(words.call(psci.CPU_OFF)))
    kit.enter()
    calling, target, other = kit.recs
    for bad in (
        (calling, calling, 0),
        (target, calling, 0),
        (calling, other, 0),
        (calling, target, PsciStatus.OFF.x0),
        (calling, target, PsciStatus.ALREADY_ON.x0),
        (calling, target, 0xFFFF_FFFD),
        (calling + 1, target, 0),
        (calling, target + 0x800, 0),
        (kit.rd, target, 0),
    ):
        assert kit.call(Rmi.PSCI_COMPLETE, *bad)[:5] == (1, 0, 0, 0, 0)
    kit.ok(Rmi.PSCI_COMPLETE, calling, target, status)
    assert kit.call(Rmi.PSCI_COMPLETE, calling, target, status)[0] == 1, "once"
    assert called(0, kit=kit) == [x0.x0, 0, 0, 0, *fill(4)]
    assert (kit.enter(rec=1).x0 == 3) == bool(status)


@pytest.mark.parametrize("fid", [psci.AFFINITY_INFO, psci.AFFINITY_INFO_32])
def test_affinity_info(fid: int) -> None:
    kit = Kit(call_program(fid, 1, 0), recs=2)
    kit.enter().shows(ExitReason.PSCI, gprs=(fid, 1))
    assert kit.call(Rmi.PSCI_COMPLETE, *kit.recs, PsciStatus.DENIED.x0)[0] == 1
    kit.ok(Rmi.PSCI_COMPLETE, *kit.recs, 0)
    assert called(0, kit=kit) == [PsciStatus.OFF.x0, 0, 0, 0, *fill(4)]
