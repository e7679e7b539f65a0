from dataclasses import replace

import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import Pas
from realmkit.machine import platforms
from realmkit.machine.platform import AddressRange, DeviceRange, Platform
from realmkit.machine.platforms import GIB, MIB, TIB


@pytest.mark.parametrize("dram", [64 * MIB, 2 * GIB, 2 * GIB + 2 * MIB, 4 * GIB, TIB, 8 * TIB])
def test_fvp_has_two_banks_and_carve_outs_at_the_top_of_the_first(dram: int) -> None:
    platform = platforms.fvp(dram)
    assert platform.dram[0] == AddressRange(0x8000_0000, min(dram, 2 * GIB))
    assert sum(bank.size for bank in platform.dram) == dram
    assert all(bank.base == 0x8_8000_0000 for bank in platform.dram[1:])
    assert platform.gpt.end == platform.dram[0].end
    assert platform.rmm.end == platform.gpt.base
    assert sum(r.size for r in platform.nonsecure_ram()) == dram - platform.gpt.size - platform.rmm.size
    assert platform.delegable_ranges() == platform.nonsecure_ram()


@pytest.mark.parametrize("dram", [2 * GIB, 4 * GIB, TIB])
def test_level_1_tables_take_one_part_in_8192_of_whole_gigabytes(dram: int) -> None:
    assert platforms.fvp(dram).gpt.size == dram // 8192


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("uart0", 0x1C09_0000),
        ("uart2", 0x1C0B_0000),
        ("watchdog", 0x1C0F_0000),
        ("counter", 0x2A43_0000),
        ("sbsa-watchdog-control", 0x2A44_0000),
        ("sbsa-watchdog-refresh", 0x2A45_0000),
        ("trusted-watchdog", 0x2A49_0000),
        ("gicd", 0x2F00_0000),
        ("gicr", 0x2F10_0000),
        ("ecam", 0x4000_0000),
    ],
)
@pytest.mark.parametrize("platform", [platforms.fvp(), platforms.small()], ids=["fvp", "small"])
def test_both_platforms_have_the_same_device_addresses(platform: Platform, name: str, base: int) -> None:
    assert platform.device(name).base == base


def test_the_trusted_watchdog_is_secure_and_interrupts_are_those_of_the_board() -> None:
    platform = platforms.fvp()
    assert platform.device("trusted-watchdog").pas == {Pas.SECURE}
    assert platform.device("trusted-watchdog").intids == (56,)
    assert platform.device("sbsa-watchdog-control").intids == (59,)


def test_an_unknown_device_is_named_in_the_error() -> None:
    with pytest.raises(RealmkitError, match="no device 'gpu'"):
        platforms.small().device("gpu")


def test_pes_are_found_by_affinity_only() -> None:
    platform = platforms.fvp(pes=8)
    assert [platform.pe_of(a) for a in (0x0, 0x100, 0x300, 0x1_0000, 0x1_0300)] == [0, 1, 3, 4, 7]
    for other in (0x1, 0x400, 0x2_0000, 0x100_0000, 1 << 31, 1 << 32, 1 << 63):
        assert platform.pe_of(other) is None
    assert platform.mpidr(5) == 0x8101_0100
    assert platforms.fvp(pes=2).pe_of(0x200) is None


@pytest.mark.parametrize("dram", [0, -1, 32 * MIB, 64 * MIB + 1, 64 * MIB + 4096, 8 * TIB + 2 * MIB, 1 << 60])
def test_impossible_fvp_sizes(dram: int) -> None:
    with pytest.raises(RealmkitError, match="64 MiB to 8388608 MiB"):
        platforms.fvp(dram)


@pytest.mark.parametrize("dram", [0, 4 * MIB, 2 * GIB + 2 * MIB])
def test_impossible_small_sizes(dram: int) -> None:
    with pytest.raises(RealmkitError, match="not possible"):
        platforms.small(dram)


@pytest.mark.parametrize("pes", [0, -1, 9])
def test_impossible_numbers_of_pes(pes: int) -> None:
    with pytest.raises(RealmkitError, match="1 to 8"):
        platforms.fvp(pes=pes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dram": (AddressRange(0x8000_0800, 64 * MIB),)}, "granules"),
        ({"dram": (AddressRange(0x1000, 64 * MIB),)}, "overlap"),
        ({"dram": (AddressRange((1 << 48) - MIB, 2 * MIB),)}, "48 physical address bits"),
        ({"devices": (DeviceRange("odd", 0x8000_0000, 0x1000),)}, "overlap"),
        ({"rmm": AddressRange(0x1000, 0x1000)}, "not inside DRAM"),
        ({"rmm": AddressRange(0x83FE_0000, 0x1000)}, "carve-outs"),
        ({"gpt": AddressRange(0x83FE_1000, 0x1000)}, "level 1"),
        ({"gpt_root": AddressRange(0x0600_0000, 4 * MIB)}, "level 0"),
        ({"gpt_root": AddressRange(0x0210_0000, 2 * MIB)}, "level 0"),
        ({"mpidrs": ()}, "distinct"),
        ({"mpidrs": (0, 0)}, "distinct"),
        ({"mpidrs": (0x8000_0000,)}, "distinct"),
        ({"pa_bits": 47}, "PPS"),
    ],
)
def test_a_platform_that_contradicts_itself(change: dict[str, object], message: str) -> None:
    with pytest.raises(RealmkitError, match=message):
        replace(platforms.small(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("holes", "left"),
    [
        ([], [(0x1000, 0x4000)]),
        ([(0x1000, 0x4000)], []),
        ([(0x2000, 0x1000)], [(0x1000, 0x1000), (0x3000, 0x2000)]),
        ([(0x4000, 0x9000), (0x0, 0x2000)], [(0x2000, 0x2000)]),
        ([(0x2000, 0x2000), (0x3000, 0x1000)], [(0x1000, 0x1000), (0x4000, 0x1000)]),
        ([(0x5000, 0x1000)], [(0x1000, 0x4000)]),
    ],
)
def test_range_without_holes(holes: list[tuple[int, int]], left: list[tuple[int, int]]) -> None:
    rest = AddressRange(0x1000, 0x4000).without(AddressRange(*hole) for hole in holes)
    assert [(r.base, r.size) for r in rest] == left
