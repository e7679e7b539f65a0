"""RIM and REM against the worked examples (spec: measurement section 5)."""

import hashlib

import pytest

from realmkit.arch.rmi import HashAlgorithm, RealmParams, RecParams, Rmi
from realmkit.rmm import measurement
from realmkit.rmm.state import Realm
from tests.rmm.fake import Bench, FakePort

PAGE = bytes(range(256)) * 16
GPRS = (0x1122334455667788, 2, 3, 4, 5, 6, 7, 8)

EXAMPLE_5 = {
    HashAlgorithm.SHA_256: [
        "bf97de388b1abb45577017aa8a9a8d1f160889b11df8e5803e2bf9d8a33e788c",
        "7d707e49c096803507c18c891404086ee6a46f96a6c412941cffccdd96fba779",
        "ee300f076f10da1fdfaabb97be71f0ff8239f6c7a3a1d300eb47b08dd72ac601",
        "382ae923b999f9627eb2e63ebd304e9ddf0d639e8ffda6775e4b035e35f7e7d8",
        "19e4e48a8f0f686a91f20d34cdf0b85f576ece71d5631ca880c8018fd90ea2b7",
    ],
    HashAlgorithm.SHA_512: [
        "06360d4bafb17ca3eb1b2612677d766381ba136eb94b2499cf3bf3e2c9ac9c38",
        "373bb5660a2fa0275cff46abfa02a3b08e7b29e2730051c499b2cc75089d88cd",
        "0b85f6de4bce28c5f4f4b9a69dff66d09398a86adc17119486dffaabcb248475",
        "7a2cfc9c7a48ad122b01dec0e2fc94b2243477702cfe72ef312b99a6e5102101",
        "af2a5e27df69eb2739acd4240d3722a3ba8b4f64c21280e0cee7bfcbe5c920bf",
    ],
}


def realm(algorithm: HashAlgorithm) -> Realm:
    return Realm(0, 33, algorithm, bytes(64), 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (HashAlgorithm.SHA_256, "6739dfb22b75ee1268d08dfa8369f501bc0b066243553f069f560d1fa1172973"),
        (
            HashAlgorithm.SHA_512,
            "799e434048fb57eb9d4f0e2a2b98158720377252deab2bdfcd69b5a8f82237f4"
            "34bd6bb1c75bf160a2d49382f733b3439a3ff769e4ea5dd9a6f72239d44bbbab",
        ),
    ],
)
def test_examples_1_and_2_initial_rim(algorithm: HashAlgorithm, expected: str) -> None:
    bench = Bench()
    rd = bench.realm(48, 0, rpv=b"\xab" * 64, hash_algo=algorithm)
    rim = bench.rmm.realms[rd].measurements[0]
    assert rim == bytes.fromhex(expected).ljust(64, b"\0")


def test_example_4_prefix_through_the_commands() -> None:
    """REALM_CREATE, 256 level 2 entries, one firmware page."""
    bench = Bench()
    bench.port.id_registers["ID_AA64DFR0_EL1"] = 5 << 12 | 5 << 20
    rd = bench.realm(33, 1, num_bps=5, num_wps=5)
    rim = bench.rmm.realms[rd].measurements
    assert rim[0][:32].hex() == "9abbddd3cf68930801ba9475b12b0036bf43bd1399a161b178751d2f7b2880c3"
    bench.table(rd, 0x8000_0000, 2)
    base = 0x8000_0000
    while base < 0xA000_0000:
        base = bench.ok(Rmi.RTT_INIT_RIPAS, rd, base, 0xA000_0000)[0]
    assert rim[0][:32].hex() == "365183bedfd6b2b008421cd9987384ebad20438e6cb3a9a1b6dbdfef3ca1aec7"
    bench.table(rd, 0x8000_0000, 3)
    firmware = bench.ns(b"FW CONTENT")
    bench.ok(Rmi.DATA_CREATE, rd, bench.delegated(), 0x8000_0000, firmware, 1)
    assert rim[0][:32].hex() == "e7bb6d28bf8034d7764da637acace2409ce2fd9148c83679c307ac4c31e3fc9c"


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_example_5_formulas(algorithm: HashAlgorithm) -> None:
    port, subject = FakePort(), realm(algorithm)
    params = RealmParams(s2sz=33, hash_algo=algorithm, rpv=b"r" * 64, vmid=7, rtt_base=0x8000_0000, rtt_num_start=1)
    rec = RecParams(flags=1, mpidr=0x100, pc=0x8000_0000, gprs=GPRS, num_aux=2, aux=(0x1000,) * 16)
    digest = measurement.content_digest(subject, PAGE)
    steps = []
    measurement.initial_rim(port, subject, params)
    steps.append(subject.measurements[0])
    measurement.extend_rim_ripas(port, subject, 0x8000_0000, 0x8020_0000)
    steps.append(subject.measurements[0])
    measurement.extend_rim_data(port, subject, 0x8000_0000, 1, digest)
    steps.append(subject.measurements[0])
    measurement.extend_rim_data(port, subject, 0x8000_1000, 0, b"")
    steps.append(subject.measurements[0])
    measurement.extend_rim_rec(port, subject, rec)
    steps.append(subject.measurements[0])
    assert [rim[:32].hex() for rim in steps] == EXAMPLE_5[algorithm]
    assert {len(rim) for rim in steps} == {64}
    assert all(rim[algorithm.digest_size :] == bytes(64 - algorithm.digest_size) for rim in steps)


def test_example_6_rem() -> None:
    words = (0x05A9BF223FEDF80A, 0x9D0DA5F73F5C191A, 0x665BF4A0A4A3E608, 0xF2F9E7D5FF23959C)
    value = b"".join(word.to_bytes(8, "little") for word in words)
    port, subject = FakePort(), realm(HashAlgorithm.SHA_256)
    measurement.extend_rem(port, subject, 1, value.ljust(64, b"\0"))
    assert subject.measurements[1][:32].hex() == "5e8d149948d79cbdf26b9c86b4a5105d67cce875508f868c9c9598e6a46da226"
    measurement.extend_rem(port, subject, 1, value.ljust(64, b"\0"))
    assert subject.measurements[1][:32].hex() == "985d067008d653974cb5da124b57e6e944cb13edb09467a592b8f26bb0cee430"
    measurement.extend_rem(port, subject, 2, value)
    assert subject.measurements[2][:32].hex() == "6333cbce9e85c645936763c067eb8a28588cd9b633c6bb0c21e3767b0366e784"
    measurement.extend_rem(port, subject, 3, b"")
    assert subject.measurements[3][:32] == hashlib.sha256(bytes(32)).digest()
    wide = realm(HashAlgorithm.SHA_512)
    measurement.extend_rem(port, wide, 4, value.ljust(64, b"\0"))
    assert wide.measurements[4].hex() == (
        "8896784d2b67433c541c5705670f4bfeb31db8b2906c7fead29f014128e009cd"
        "4a8bad49516e8df94a28708a4a30b030f939bcbb1437e1b56fa147710f40db36"
    )


def test_only_four_commands_change_the_rim() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    subject = bench.rmm.realms[rd]
    rim = subject.measurements[0]
    bench.page(rd, 0x1000)
    bench.ok(Rmi.DATA_DESTROY, rd, 0x1000)
    bench.table(rd, 0x20_0000, 3)
    bench.ok(Rmi.RTT_FOLD, rd, 0x20_0000, 3)
    bench.ok(Rmi.RTT_DESTROY, rd, 0, 3)
    bench.ok(Rmi.REALM_ACTIVATE, rd)
    assert subject.measurements == [rim, *[bytes(64)] * 4]


def test_a_page_that_is_ram_already_is_measured_again() -> None:
    bench = Bench()
    rd = bench.realm()
    bench.tables(rd, 0)
    seen = {bench.rmm.realms[rd].measurements[0]}
    for count in (2, 3):
        bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0x1000, 0x2000)
        seen.add(bench.rmm.realms[rd].measurements[0])
        assert len(seen) == count
