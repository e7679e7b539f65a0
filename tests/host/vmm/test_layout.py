"""Configurations of guests: what is possible, and the Realm parameters that follow."""

from itertools import pairwise

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.rmi import FEATURE_REGISTER_0, HashAlgorithm
from realmkit.arch.vmsa import starting_tables
from realmkit.host.vmm import layout
from realmkit.host.vmm.layout import RAM_BASE, VmConfig

MIB = 1 << 20
FEATURES = FEATURE_REGISTER_0.make(S2SZ=48, NUM_BPS=5, NUM_WPS=3)


@pytest.mark.parametrize(
    ("memory", "width", "start", "tables"),
    [
        (2 * MIB, 33, 1, 1),
        (256 * MIB, 33, 1, 1),
        (2 << 30, 33, 1, 1),
        ((2 << 30) + 2 * MIB, 34, 1, 1),
        (6 << 30, 34, 1, 1),
        (8 << 30, 35, 1, 1),
        (254 << 30, 39, 1, 1),
        (256 << 30, 40, 1, 2),
        (1 << 40, 42, 1, 8),
    ],
)
def test_ipa_width_holds_ram_in_its_protected_half(memory: int, width: int, start: int, tables: int) -> None:
    realm = VmConfig(memory).realm(FEATURES)
    assert (realm.ipa_width, realm.rtt_level_start, realm.rtt_num_start) == (width, start, tables)
    assert RAM_BASE + memory <= 1 << (width - 1)
    assert starting_tables(width, start) == tables
    assert (realm.num_bps, realm.num_wps) == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": 0}, "multiple of 2M"),
        ({"memory": 3 * MIB}, "multiple of 2M"),
        ({"memory": -2 * MIB}, "multiple of 2M"),
        ({"memory": (1 << 40) + 2 * MIB}, "at most 1T"),
        ({"memory": 2 * MIB, "vcpus": 0}, "1 to 256"),
        ({"memory": 2 * MIB, "vcpus": 257}, "1 to 256"),
        ({"memory": 2 * MIB, "rpv": bytes(65)}, "at most 64 bytes"),
    ],
)
def test_impossible_configurations(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(RealmkitError, match=message):
        VmConfig(**arguments)  # type: ignore[arg-type]


def test_a_platform_with_a_small_ipa_space() -> None:
    with pytest.raises(RealmkitError, match="needs 42 IPA bits, the platform offers 40"):
        VmConfig(1 << 40).realm(FEATURE_REGISTER_0.make(S2SZ=40, NUM_BPS=5, NUM_WPS=3))


@pytest.mark.parametrize("vcpus", [1, 7, 256])
def test_devices_do_not_overlap(vcpus: int) -> None:
    config = VmConfig(2 * MIB, vcpus)
    regions = sorted(
        [
            (layout.UART_BASE, layout.UART_SIZE),
            (layout.GICD_BASE, layout.GICD_SIZE),
            (config.gicr_base, layout.GICR_SIZE * vcpus),
        ]
    )
    for (low, size), (high, _) in pairwise(regions):
        assert low + size <= high
    assert regions[-1][0] + regions[-1][1] <= RAM_BASE


def test_measured_parameters() -> None:
    realm = VmConfig(2 * MIB, hash_algo=HashAlgorithm.SHA_512, rpv=b"me").realm(FEATURES)
    assert realm.hash_algo is HashAlgorithm.SHA_512
    assert realm.rpv == b"me".ljust(64, b"\0")
