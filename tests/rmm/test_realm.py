"""Creation, life cycle and destruction of Realms (spec: rmi sections 3, 6.4-6.6; rtt section 2)."""

import pytest

from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rmi import HashAlgorithm, Rmi
from realmkit.arch.vmsa import shift
from realmkit.rmm.state import GranuleState, RealmState
from tests.rmm.fake import Bench

GEOMETRIES = {
    32: {(1, 1), (2, 4)},
    33: {(1, 1), (2, 8)},
    34: {(1, 1), (2, 16)},
    **{width: {(1, 1)} for width in range(35, 40)},
    40: {(0, 1), (1, 2)},
    41: {(0, 1), (1, 4)},
    42: {(0, 1), (1, 8)},
    43: {(0, 1), (1, 16)},
    **{width: {(0, 1)} for width in range(44, 49)},
}


@pytest.mark.parametrize("width", range(31, 53))
def test_permitted_widths_levels_and_numbers_of_tables(width: int) -> None:
    for level in range(-1, 4):
        for number in (0, 1, 2, 3, 4, 8, 16, 32):
            bench = Bench()
            rd, base = bench.delegated(), bench.delegated(align=32 * GRANULE_SIZE)
            for _ in range(31):
                bench.delegated()
            result = bench.call(Rmi.REALM_CREATE, rd, bench.ns(bench.params(base, width, level, number).pack()))
            assert (result.x0 == 0) == ((level, number) in GEOMETRIES.get(width, ())), (width, level, number)


@pytest.mark.parametrize(
    ("width", "level", "number"), [(w, s, n) for w, pairs in GEOMETRIES.items() for s, n in sorted(pairs)]
)
def test_starting_tables_are_split_between_the_halves(width: int, level: int, number: int) -> None:
    bench = Bench()
    rd = bench.realm(width, level, number)
    base = bench.rmm.realms[rd].rtt_base
    half = 1 << width - 1 - shift(level)
    assert half * 2 <= number * 512
    for slot in (0, half - 1, half, 2 * half - 1):
        entry = bench.bus.read64(Pas.REALM, base + slot * 8)
        assert entry == (1 << 55 if slot >= half else 0)
        assert bench.ok(Rmi.RTT_READ_ENTRY, rd, slot << shift(level), level) == (level, 0, 0, 0)
    for number_of_table in range(number):
        assert bench.rmm.granules.state(base + number_of_table * GRANULE_SIZE) is GranuleState.RTT


def test_attributes_come_from_the_parameters() -> None:
    bench = Bench()
    rd = bench.realm(41, 1, 4, vmid=0, rpv=bytes(range(64)), hash_algo=1, num_bps=5, num_wps=3)
    realm = bench.rmm.realms[rd]
    assert (realm.ipa_width, realm.rtt_level_start, realm.rtt_num_start, realm.vmid) == (41, 1, 4, 0)
    assert (realm.rpv, realm.hash_algo) == (bytes(range(64)), HashAlgorithm.SHA_512)
    assert (realm.state, realm.rec_index, realm.num_recs) == (RealmState.NEW, 0, 0)
    assert realm.measurements[1:] == [bytes(64)] * 4
    assert (realm.unprotected_base, realm.ipa_top) == (1 << 40, 1 << 41)


def test_vmids_are_reserved_and_released() -> None:
    """attacks 31: a refused creation leaves the VMID free, a destroyed Realm gives it back."""
    bench = Bench()
    rd = bench.delegated()
    base = bench.delegated()
    params = bench.ns(bench.params(base, vmid=255).pack())
    bench.ok(Rmi.GRANULE_UNDELEGATE, base)
    assert bench.call(Rmi.REALM_CREATE, rd, params).label == "rtt_state"
    bench.ok(Rmi.GRANULE_DELEGATE, base)
    bench.ok(Rmi.REALM_CREATE, rd, params)
    other, other_base = bench.delegated(), bench.delegated()
    other_params = bench.ns(bench.params(other_base, vmid=255).pack())
    assert bench.call(Rmi.REALM_CREATE, other, other_params).label == "vmid_valid"
    bench.ok(Rmi.REALM_DESTROY, rd)
    bench.ok(Rmi.REALM_CREATE, other, other_params)


def test_vmids_have_16_bits_where_the_platform_has_them() -> None:
    bench = Bench()
    bench.port.id_registers["ID_AA64MMFR1_EL1"] = 2 << 4
    rd = bench.realm(vmid=0xFFFF)
    assert bench.rmm.realms[rd].vmid == 0xFFFF


def test_live_realms_cannot_be_destroyed() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.table(rd, 0, 2)
    assert bench.call(Rmi.REALM_DESTROY, rd).code == (2, 0)
    bench.ok(Rmi.RTT_DESTROY, rd, 0, 2)
    rec = bench.rec(rd)
    assert bench.call(Rmi.REALM_DESTROY, rd).code == (2, 0)
    del bench.rmm.recs[rec]
    bench.rmm.granules.release(bench.port, rec)
    bench.rmm.realms[rd].num_recs = 0
    bench.ok(Rmi.REALM_DESTROY, rd)
    assert bench.call(Rmi.REALM_DESTROY, rd).label == "rd_state"


def test_an_assigned_block_in_a_starting_table_keeps_the_realm_alive() -> None:
    bench = Bench()
    rd = bench.realm(32, 2, 4)
    bench.table(rd, 0x3FE0_0000 + 0x20_0000, 3)  # in the second of the concatenated tables
    block = bench.ns(align=1 << 21)
    for page in range(512):
        bench.ok(Rmi.GRANULE_DELEGATE, block + page * 4096)
        bench.ok(Rmi.DATA_CREATE_UNKNOWN, rd, block + page * 4096, 0x4000_0000 + page * 4096)
    table = bench.ok(Rmi.RTT_FOLD, rd, 0x4000_0000, 3)[0]
    assert bench.call(Rmi.REALM_DESTROY, rd).code == (2, 0)
    bench.ok(Rmi.RTT_CREATE, rd, table, 0x4000_0000, 3)
    for page in range(512):
        bench.ok(Rmi.DATA_DESTROY, rd, 0x4000_0000 + page * 4096)
    bench.ok(Rmi.RTT_DESTROY, rd, 0x4000_0000, 3)
    bench.ok(Rmi.REALM_DESTROY, rd)


def test_unprotected_mappings_do_not_keep_a_realm_alive() -> None:
    """What they left in TLBs goes by VMID, since the next Realm may get it."""
    bench = Bench()
    rd = bench.realm(vmid=5)
    bench.ok(Rmi.RTT_MAP_UNPROTECTED, rd, 1 << 38, 1, 0xD8)
    bench.ok(Rmi.REALM_DESTROY, rd)
    assert bench.port.tlbi == [(5,)]


@pytest.mark.parametrize("state", RealmState)
def test_a_realm_can_be_destroyed_in_every_state(state: RealmState) -> None:
    bench = Bench()
    rd = bench.realm()
    bench.rmm.realms[rd].state = state
    bench.ok(Rmi.REALM_DESTROY, rd)
    assert (bench.rmm.realms, bench.rmm.vmids, bench.rmm.live_entries) == ({}, set(), {})


def test_the_number_of_aux_granules_is_within_the_abi() -> None:
    bench = Bench()
    assert 0 < bench.ok(Rmi.REC_AUX_COUNT, bench.realm())[0] <= 16
