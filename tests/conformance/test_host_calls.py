"""SMCs of the Host: result registers, identifiers, and refusals that need the whole machine (spec: rmi 1, 9)."""

import pytest

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import RealmParams, Rmi
from realmkit.arch.rsi import Rsi
from realmkit.arch.smccc import MASK64, SVE_HINT
from tests.conformance import words
from tests.conformance.kit import CALL, RAM, UNPROTECTED, Kit, program

X = [0x1111 * n for n in range(8)]
ZEROS = [0, 0, 0, 0]
SECURE = 0x0600_0000
TRUSTED_ROM = 0x1000
UART = 0x1C09_0000
BEYOND = 1 << 48


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit(program(words.NOP))


@pytest.mark.parametrize("fid", [0xC400_0156, 0xC400_0160, 0xC400_0163, 0xC400_016A, 0xC400_018E, 0xC400_018F])
@pytest.mark.parametrize("hint", [0, SVE_HINT])
def test_unallocated_rmi_functions(kit: Kit, fid: int, hint: int) -> None:
    """-1 in 64 bits; X1-X4 are results (zero), X5 and up are not."""
    assert list(kit.call(fid | hint, *X[1:])) == [MASK64, *ZEROS, *X[5:]]


@pytest.mark.parametrize(
    "fid", [0x8400_0150, 0x8400_0152, Rsi.VERSION, 0xC400_01AF, 0xC400_01B0, 0xC400_01CF, 0xC400_014F, 0, 0x8600_FF01]
)
def test_what_the_monitor_does_not_know(kit: Kit, fid: int) -> None:
    """32-bit forms, RSI and the interface of RMM and Monitor: -1, and nothing else is changed."""
    assert list(kit.call(fid, *X[1:])) == [MASK64, *X[1:]]


@pytest.mark.parametrize("fid", [Rmi.VERSION, Rmi.VERSION | SVE_HINT, Rmi.VERSION | 0x1234_5678 << 32])
def test_version(kit: Kit, fid: int) -> None:
    assert list(kit.call(fid, 0x1_0000, *X[2:])) == [0, 0x1_0000, 0x1_0000, 0, 0, *X[5:]]
    assert list(kit.call(fid, 0x1_0001, *X[2:])) == [1, 0x1_0000, 0x1_0000, 0, 0, *X[5:]]


@pytest.mark.parametrize("index", [1, 2, MASK64])
def test_feature_registers_that_do_not_exist(kit: Kit, index: int) -> None:
    assert list(kit.call(Rmi.FEATURES, index, *X[2:])) == [0, *ZEROS, *X[5:]]


def test_feature_register_0(kit: Kit) -> None:
    """48 bits, no LPA2, SVE or PMU, both hashes, and nothing above bit 41."""
    x0, value, *rest = kit.call(Rmi.FEATURES, 0, *X[2:])
    assert (x0, rest) == (0, [0, 0, 0, *X[5:]])
    assert (value & 0xFF, value >> 8 & 3, value >> 26 & 0x3F, value >> 32 & 3, value >> 42) == (48, 0, 0, 3, 0)
    assert value >> 14 & 0x3F
    assert value >> 20 & 0x3F


BAD = {
    "byte": 1,
    "half": 0x800,
    "device": UART,
    "Secure": SECURE,
    "Root": TRUSTED_ROM,
    "beyond": BEYOND,
    "last": MASK64 & ~0xFFF,
}


@pytest.mark.parametrize("address", BAD.values(), ids=BAD)
def test_addresses_that_no_command_takes(kit: Kit, address: int) -> None:
    """Every command, in every address it has: RMI_ERROR_INPUT, zeros, and no more."""
    good_rd, good_rec, spare, page = kit.rd, kit.recs[0], kit.granule(), kit.page()
    address = address + page if address in (1, 0x800) else address
    calls: list[tuple[int, ...]] = [
        (Rmi.GRANULE_DELEGATE, address),
        (Rmi.GRANULE_UNDELEGATE, address),
        (Rmi.REALM_CREATE, address, page),
        (Rmi.REALM_CREATE, spare, address),
        (Rmi.REALM_ACTIVATE, address),
        (Rmi.REALM_DESTROY, address),
        (Rmi.REC_AUX_COUNT, address),
        (Rmi.REC_CREATE, address, spare, page),
        (Rmi.REC_CREATE, good_rd, address, page),
        (Rmi.REC_CREATE, good_rd, spare, address),
        (Rmi.REC_DESTROY, address),
        (Rmi.REC_ENTER, address, page),
        (Rmi.REC_ENTER, good_rec, address),
        (Rmi.DATA_CREATE, address, spare, RAM, page, 0),
        (Rmi.DATA_CREATE, good_rd, address, RAM, page, 0),
        (Rmi.DATA_CREATE_UNKNOWN, address, spare, RAM),
        (Rmi.DATA_CREATE_UNKNOWN, good_rd, address, RAM),
        (Rmi.DATA_DESTROY, address, RAM),
        (Rmi.RTT_CREATE, address, spare, 1 << 30, 2),
        (Rmi.RTT_CREATE, good_rd, address, 1 << 30, 2),
        (Rmi.RTT_DESTROY, address, 0, 3),
        (Rmi.RTT_FOLD, address, 0, 3),
        (Rmi.RTT_READ_ENTRY, address, RAM, 3),
        (Rmi.RTT_MAP_UNPROTECTED, address, UNPROTECTED, 3, page),
        (Rmi.RTT_UNMAP_UNPROTECTED, address, UNPROTECTED, 3),
        (Rmi.RTT_INIT_RIPAS, address, 0, 0x1000),
        (Rmi.RTT_SET_RIPAS, address, good_rec, 0, 0x1000),
        (Rmi.RTT_SET_RIPAS, good_rd, address, 0, 0x1000),
        (Rmi.PSCI_COMPLETE, address, good_rec, 0),
        (Rmi.PSCI_COMPLETE, good_rec, address, 0),
    ]
    for call in calls:
        full = [*call, *X[len(call) :]]
        assert list(kit.call(*full)) == [1, *ZEROS, *full[5:]], Rmi(call[0]).name
    kit.ok(Rmi.GRANULE_UNDELEGATE, spare)


@pytest.mark.parametrize("where", [SECURE, TRUSTED_ROM])
def test_memory_of_other_worlds_is_no_source(where: int) -> None:
    """A source that the RMM could not read as Non-secure memory, in a Realm where all else is right."""
    kit = Kit(program(words.NOP))
    params = RealmParams(s2sz=39, num_bps=1, num_wps=1, vmid=9, rtt_base=kit.granule(), rtt_level_start=1)
    params.rtt_num_start = 1
    rd = kit.granule()
    kit.ok(Rmi.REALM_CREATE, rd, kit.page(params.pack()))
    for level in (2, 3):
        kit.ok(Rmi.RTT_CREATE, rd, kit.granule(), 0, level)
    data = kit.granule()
    assert kit.call(Rmi.DATA_CREATE, rd, data, 0, where, 1)[:5] == (1, 0, 0, 0, 0)
    assert kit.call(Rmi.DATA_CREATE, rd, data, 0, data, 1)[:5] == (1, 0, 0, 0, 0)
    kit.ok(Rmi.DATA_CREATE, rd, data, 0, kit.page(b"x"), 1)


def test_a_run_page_that_is_delegated(kit: Kit) -> None:
    """run_pas comes before everything that the REC could be refused for."""
    page = kit.granule()
    assert kit.call(Rmi.REC_ENTER, kit.recs[0], page)[0] == 1
    assert kit.call(Rmi.REC_ENTER, kit.recs[0], SECURE)[0] == 1
    kit.ok(Rmi.GRANULE_UNDELEGATE, page)


def test_a_destroyed_realm_leaves_zeros_in_the_hands_of_the_host() -> None:
    kit = Kit(program(words.mov(3, RAM), words.mov(5, 0x5EC2E7), words.str_(5, 3)))
    kit.done()
    held = [kit.recs[0], kit.pages[RAM], kit.pages[CALL], kit.rd, kit.rtt_base]
    kit.ok(Rmi.REC_DESTROY, kit.recs[0])
    assert kit.call(Rmi.REALM_DESTROY, kit.rd)[0] == 2, "live"
    ipa = 0
    while ipa < 1 << 21:
        x0, data, ipa, *_ = kit.call(Rmi.DATA_DESTROY, kit.rd, ipa)
        assert x0 in (0, 0x304)
        assert (data != 0) == (x0 == 0)
    for level in (3, 2):
        for base in (0, UNPROTECTED):
            held.append(kit.ok(Rmi.RTT_DESTROY, kit.rd, base, level)[1])
    kit.ok(Rmi.REALM_DESTROY, kit.rd)
    for pa in held:
        kit.ok(Rmi.GRANULE_UNDELEGATE, pa)
        assert not any(kit.port.bus.read(Pas.NS, pa, 4096))
