"""The platforms that ship: the FVP Base memory map, and a small one with the same addresses (spec: host-platform)."""

from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import Pas
from realmkit.machine.platform import L0_REGION_SHIFT, L1_TABLE_SIZE, AddressRange, DeviceRange, Platform

MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40

BANK0: Final = 0x8000_0000
BANK0_MAX: Final = 2 * GIB
BANK1: Final = 0x8_8000_0000
DRAM_STEP: Final = 2 * MIB
FVP_DRAM_MIN: Final = 64 * MIB
FVP_DRAM_MAX: Final = 8 * TIB
"""Largest DRAM of the fvp platform: its level 1 GPTs (1/8192) then take half of bank 0."""
SMALL_DRAM_MIN: Final = 8 * MIB

AFFINITIES: Final = (0x0, 0x100, 0x200, 0x300, 0x1_0000, 0x1_0100, 0x1_0200, 0x1_0300)
"""Two clusters of four PEs of one thread each."""

_TRUSTED_ROM_AND_ROOT: Final = AddressRange(0x0, 64 * MIB)
_GPT_ROOT: Final = AddressRange(0x0200_0000, 4 * MIB)
_SECURE: Final = (AddressRange(0x0400_0000, 256 << 10), AddressRange(0x0600_0000, 32 * MIB))
_FRAME: Final = 0x1_0000
_GICR_FRAMES: Final = 2 * _FRAME


def fvp(dram_bytes: int = 4 * GIB, pes: int = 8) -> Platform:
    """The memory map of Arm's FVP Base platform.

    ``dram_bytes``: 64 MiB to 8 TiB in steps of 2 MiB; the first 2 GiB are bank 0, the rest is bank 1. ``pes``: 1 to 8.
    """
    _check_size("fvp", dram_bytes, FVP_DRAM_MIN, FVP_DRAM_MAX)
    banks = [AddressRange(BANK0, min(dram_bytes, BANK0_MAX))]
    if dram_bytes > BANK0_MAX:
        banks.append(AddressRange(BANK1, dram_bytes - BANK0_MAX))
    return _platform("fvp", tuple(banks), pes, rmm_bytes=32 * MIB)


def small(dram_bytes: int = 64 * MIB, pes: int = 1) -> Platform:
    """One bank of DRAM, by default 64 MiB (8 MiB to 2 GiB in steps of 2 MiB), with the fvp's device addresses."""
    _check_size("small", dram_bytes, SMALL_DRAM_MIN, BANK0_MAX)
    return _platform("small", (AddressRange(BANK0, dram_bytes),), pes, rmm_bytes=1 * MIB)


def _check_size(name: str, dram_bytes: int, low: int, high: int) -> None:
    if not low <= dram_bytes <= high or dram_bytes % DRAM_STEP:
        raise RealmkitError(
            f"platform {name}: DRAM of {dram_bytes} bytes is not possible: choose {low // MIB} MiB "
            f"to {high // MIB} MiB in steps of {DRAM_STEP // MIB} MiB"
        )


def _platform(name: str, dram: tuple[AddressRange, ...], pes: int, rmm_bytes: int) -> Platform:
    if not 1 <= pes <= len(AFFINITIES):
        raise RealmkitError(f"platform {name}: {pes} PEs are not possible: choose 1 to {len(AFFINITIES)}")
    gigabytes = sum((bank.end - 1 >> L0_REGION_SHIFT) - (bank.base >> L0_REGION_SHIFT) + 1 for bank in dram)
    gpt_bytes = gigabytes * L1_TABLE_SIZE
    gpt = AddressRange(dram[0].end - gpt_bytes, gpt_bytes)
    return Platform(
        name=name,
        dram=dram,
        root=(_TRUSTED_ROM_AND_ROOT,),
        secure=_SECURE,
        devices=_devices(pes),
        mpidrs=AFFINITIES[:pes],
        rmm=AddressRange(gpt.base - rmm_bytes, rmm_bytes),
        gpt=gpt,
        gpt_root=_GPT_ROOT,
    )


def _devices(pes: int) -> tuple[DeviceRange, ...]:
    return (
        DeviceRange("uart0", 0x1C09_0000, _FRAME, (37,)),
        DeviceRange("uart1", 0x1C0A_0000, _FRAME, (38,)),
        DeviceRange("uart2", 0x1C0B_0000, _FRAME, (39,)),
        DeviceRange("uart3", 0x1C0C_0000, _FRAME, (40,), frozenset({Pas.NS, Pas.REALM})),
        DeviceRange("watchdog", 0x1C0F_0000, _FRAME, (32,)),
        DeviceRange("counter", 0x2A43_0000, _FRAME),
        DeviceRange("sbsa-watchdog-control", 0x2A44_0000, _FRAME, (59,)),
        DeviceRange("sbsa-watchdog-refresh", 0x2A45_0000, _FRAME),
        DeviceRange("trusted-watchdog", 0x2A49_0000, _FRAME, (56,), frozenset({Pas.SECURE})),
        DeviceRange("gicd", 0x2F00_0000, _FRAME),
        DeviceRange("gicr", 0x2F10_0000, _GICR_FRAMES * pes),
        DeviceRange("ecam", 0x4000_0000, 256 * MIB),
    )
