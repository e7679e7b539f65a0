import hashlib
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration, Step
from realmkit.arch.rmi import HashAlgorithm
from realmkit.attestation.rim import (
    explain_rim,
    extend_data,
    extend_rec,
    extend_rem,
    extend_ripas,
    initial_rim,
    predict_rim,
)

SHA_256, SHA_512 = HashAlgorithm.SHA_256, HashAlgorithm.SHA_512
EXAMPLE_5 = RealmConfiguration(ipa_width=33, hash_algo=SHA_256, num_bps=0, num_wps=0)
KVMTOOL = RealmConfiguration(ipa_width=33, hash_algo=SHA_256, num_bps=5, num_wps=5)
PAGE = bytes(range(256)) * 16
GPRS = (0x1122334455667788, 2, 3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (SHA_256, "6739dfb22b75ee1268d08dfa8369f501bc0b066243553f069f560d1fa1172973"),
        (
            SHA_512,
            "799e434048fb57eb9d4f0e2a2b98158720377252deab2bdfcd69b5a8f82237f4"
            "34bd6bb1c75bf160a2d49382f733b3439a3ff769e4ea5dd9a6f72239d44bbbab",
        ),
    ],
)
def test_examples_1_and_2_initial_rim(algorithm: HashAlgorithm, expected: str) -> None:
    assert initial_rim(RealmConfiguration(ipa_width=48, hash_algo=algorithm)).hex() == expected


def test_example_3_ram_as_level_2_entries() -> None:
    plan = LaunchPlan(KVMTOOL, (CreateTable(0x8000_0000, 2), InitRipas(0x8000_0000, 0xA000_0000, 2)))
    assert initial_rim(KVMTOOL).hex() == "9abbddd3cf68930801ba9475b12b0036bf43bd1399a161b178751d2f7b2880c3"
    assert predict_rim(plan).hex() == "365183bedfd6b2b008421cd9987384ebad20438e6cb3a9a1b6dbdfef3ca1aec7"
    assert len(list(explain_rim(plan))) == 1 + 256


def test_example_4_firmware_page() -> None:
    firmware = LoadPage(0x8000_0000, b"FW CONTENT".ljust(4096, b"\0"))
    plan = LaunchPlan(KVMTOOL, (InitRipas(0x8000_0000, 0xA000_0000, 2), firmware))
    assert predict_rim(plan).hex() == "e7bb6d28bf8034d7764da637acace2409ce2fd9148c83679c307ac4c31e3fc9c"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (
            SHA_256,
            [
                "bf97de388b1abb45577017aa8a9a8d1f160889b11df8e5803e2bf9d8a33e788c",
                "7d707e49c096803507c18c891404086ee6a46f96a6c412941cffccdd96fba779",
                "ee300f076f10da1fdfaabb97be71f0ff8239f6c7a3a1d300eb47b08dd72ac601",
                "382ae923b999f9627eb2e63ebd304e9ddf0d639e8ffda6775e4b035e35f7e7d8",
                "19e4e48a8f0f686a91f20d34cdf0b85f576ece71d5631ca880c8018fd90ea2b7",
            ],
        ),
        (
            SHA_512,
            [
                "06360d4bafb17ca3eb1b2612677d766381ba136eb94b2499cf3bf3e2c9ac9c38",
                "373bb5660a2fa0275cff46abfa02a3b08e7b29e2730051c499b2cc75089d88cd",
                "0b85f6de4bce28c5f4f4b9a69dff66d09398a86adc17119486dffaabcb248475",
                "7a2cfc9c7a48ad122b01dec0e2fc94b2243477702cfe72ef312b99a6e5102101",
                "af2a5e27df69eb2739acd4240d3722a3ba8b4f64c21280e0cee7bfcbe5c920bf",
            ],
        ),
    ],
)
def test_example_5_whole_sequence(algorithm: HashAlgorithm, expected: list[str]) -> None:
    plan = LaunchPlan(
        replace(EXAMPLE_5, hash_algo=algorithm),
        (
            InitRipas(0x8000_0000, 0x8020_0000, 2),
            LoadPage(0x8000_0000, PAGE),
            LoadPage(0x8000_1000, PAGE, measured=False),
            CreateRec(mpidr=0, pc=0x8000_0000, gprs=GPRS),
        ),
    )
    values = [value for _, value in explain_rim(plan)]
    assert [value[:32].hex() for value in values] == expected
    assert predict_rim(plan) == values[-1]
    assert {len(value) for value in values} == {algorithm.digest_size}


def test_low_level_formulas_build_the_same_chain() -> None:
    rim = initial_rim(EXAMPLE_5)
    rim = extend_ripas(SHA_256, rim, 0x8000_0000, 0x8020_0000)
    rim = extend_data(SHA_256, rim, 0x8000_0000, PAGE)
    rim = extend_data(SHA_256, rim, 0x8000_1000, PAGE, measured=False)
    rim = extend_rec(SHA_256, rim, 0x8000_0000, GPRS)
    assert rim.hex() == "19e4e48a8f0f686a91f20d34cdf0b85f576ece71d5631ca880c8018fd90ea2b7"


ACS_VALUE = struct.pack(
    "<8Q", 0x05A9BF223FEDF80A, 0x9D0DA5F73F5C191A, 0x665BF4A0A4A3E608, 0xF2F9E7D5FF23959C, 0, 0, 0, 0
)


@pytest.mark.parametrize(
    ("algorithm", "values", "expected"),
    [
        (SHA_256, [ACS_VALUE], "5e8d149948d79cbdf26b9c86b4a5105d67cce875508f868c9c9598e6a46da226"),
        (SHA_256, [ACS_VALUE] * 2, "985d067008d653974cb5da124b57e6e944cb13edb09467a592b8f26bb0cee430"),
        (SHA_256, [ACS_VALUE[:32]], "6333cbce9e85c645936763c067eb8a28588cd9b633c6bb0c21e3767b0366e784"),
        (
            SHA_512,
            [ACS_VALUE],
            "8896784d2b67433c541c5705670f4bfeb31db8b2906c7fead29f014128e009cd"
            "4a8bad49516e8df94a28708a4a30b030f939bcbb1437e1b56fa147710f40db36",
        ),
        (SHA_256, [b""], "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"),
    ],
)
def test_example_6_rem(algorithm: HashAlgorithm, values: list[bytes], expected: str) -> None:
    rem = bytes(algorithm.digest_size)
    for value in values:
        rem = extend_rem(algorithm, rem, value)
    assert rem.hex() == expected


def test_rem_padded_reading_differs_only_below_64_bytes() -> None:
    zero = bytes(32)
    assert extend_rem(SHA_256, zero, ACS_VALUE, padded=True) == extend_rem(SHA_256, zero, ACS_VALUE)
    assert extend_rem(SHA_256, zero, b"\x01", padded=True) == hashlib.sha256(zero + b"\x01".ljust(64, b"\0")).digest()
    assert extend_rem(SHA_256, zero, b"\x01") == hashlib.sha256(zero + b"\x01").digest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flags", 1),
        ("ipa_width", 34),
        ("sve_vl", 1),
        ("num_bps", 2),
        ("num_wps", 2),
        ("pmu_num_ctrs", 3),
        ("hash_algo", SHA_512),
    ],
)
def test_every_measured_field_changes_the_rim(field: str, value: Any) -> None:
    assert initial_rim(replace(EXAMPLE_5, **{field: value})) != initial_rim(EXAMPLE_5)


@pytest.mark.parametrize(("field", "value"), [("rpv", b"\x01" * 64), ("rtt_level_start", 0), ("rtt_num_start", 2)])
def test_unmeasured_fields_do_not(field: str, value: Any) -> None:
    assert initial_rim(replace(EXAMPLE_5, **{field: value})) == initial_rim(EXAMPLE_5)


@pytest.mark.parametrize("step", [CreateTable(0x8000_0000, 3), CreateRec(mpidr=1, pc=4, runnable=False)])
def test_steps_that_are_not_measured(step: Step) -> None:
    assert predict_rim(LaunchPlan(EXAMPLE_5, (step,))) == initial_rim(EXAMPLE_5)


def test_rim_depends_on_the_table_layout_and_on_order() -> None:
    blocks = LaunchPlan(EXAMPLE_5, (InitRipas(0x8000_0000, 0x8020_0000, 2),))
    pages = LaunchPlan(EXAMPLE_5, (InitRipas(0x8000_0000, 0x8020_0000, 3),))
    assert predict_rim(blocks) != predict_rim(pages)
    assert len(list(explain_rim(pages))) == 1 + 512
    first, second = LoadPage(0, PAGE), LoadPage(0x1000, PAGE)
    assert predict_rim(LaunchPlan(EXAMPLE_5, (first, second))) != predict_rim(LaunchPlan(EXAMPLE_5, (second, first)))


def test_explanation_names_every_measured_operation() -> None:
    steps = (InitRipas(0, 0x20_0000, 2), LoadPage(0x1000, PAGE, measured=False), CreateRec(0, 0x1000))
    texts = [text for text, _ in explain_rim(LaunchPlan(EXAMPLE_5, steps))]
    assert texts[0].startswith("REALM_CREATE flags=0x0 s2sz=33")
    assert texts[1:3] == ["RTT_INIT_RIPAS base=0x0 top=0x200000", "DATA_CREATE ipa=0x1000 flags=0"]
    assert texts[3].startswith("REC_CREATE mpidr=0x0 pc=0x1000")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initial_rim(replace(EXAMPLE_5, num_bps=256)), "does not fit RmiRealmParams"),
        (lambda: initial_rim(replace(EXAMPLE_5, flags=-1)), "does not fit RmiRealmParams"),
        (lambda: extend_data(SHA_256, bytes(32), 0, b"short"), "5 bytes; a page has 4096"),
        (lambda: extend_data(SHA_256, bytes(64), 0, PAGE), "32 bytes, got 64"),
        (lambda: extend_data(SHA_256, bytes(32), 1 << 64, PAGE), "unsigned 64-bit"),
        (lambda: extend_ripas(SHA_512, bytes(32), 0, 0x1000), "64 bytes, got 32"),
        (lambda: extend_rec(SHA_256, bytes(32), 0, (0,) * 7), "8 measured"),
        (lambda: extend_rec(SHA_256, bytes(32), -1, (0,) * 8), "64-bit values"),
        (lambda: extend_rem(SHA_256, bytes(32), bytes(65)), "at most 64 bytes, got 65"),
        (lambda: predict_rim(LaunchPlan(EXAMPLE_5, (InitRipas(0, 0x1000, 2),))), "whole level 2 entries"),
        (lambda: predict_rim(LaunchPlan(EXAMPLE_5, (InitRipas(0x1000, 0x20_1000, 2),))), "whole level 2 entries"),
        (lambda: predict_rim(LaunchPlan(EXAMPLE_5, (InitRipas(0x1000, 0x1000, 3),))), "whole level 3 entries"),
        (lambda: predict_rim(LaunchPlan(EXAMPLE_5, (InitRipas(0, 0x1000, 4),))), "levels are -1 to 3"),
    ],
)
def test_misuse_is_named(call: Callable[[], bytes], message: str) -> None:
    with pytest.raises(RealmkitError, match=message):
        call()
