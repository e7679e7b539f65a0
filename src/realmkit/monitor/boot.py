"""What the RMM finds when it boots: arguments, and the manifest in the shared buffer (spec: monitor-rme section 5)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from realmkit.arch.fields import Layout, at
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.machine.platform import Platform

INTERFACE_VERSION: Final = 0 << 16 | 4
"""RMM-EL3 interface 0.4, x1 of a cold boot."""
MANIFEST_VERSION: Final = 0 << 16 | 3
CONSOLE: Final = "uart3"
CONSOLE_CLOCK_HZ: Final = 24_000_000
CONSOLE_BAUD: Final = 115_200
_WORD: Final = (1 << 64) - 1


class BootCode(IntEnum):
    """x1 of RMM_BOOT_COMPLETE."""

    SUCCESS = 0
    UNKNOWN = -1
    VERSION_UNSUPPORTED = -2
    TOO_MANY_CPUS = -3
    CPU_INDEX_OUT_OF_RANGE = -4
    BAD_SHARED_BUFFER = -5
    MANIFEST_VERSION_UNSUPPORTED = -6
    MANIFEST_DATA = -7


@dataclass(frozen=True, slots=True)
class Manifest(Layout):
    """Boot manifest v0.3; pointers are physical addresses inside the shared buffer."""

    SIZE: ClassVar[int] = 64

    version: int = at(0, "u32")
    plat_data: int = at(8, "u64")
    num_banks: int = at(16, "u64")
    banks: int = at(24, "u64")
    banks_checksum: int = at(32, "u64")
    num_consoles: int = at(40, "u64")
    consoles: int = at(48, "u64")
    consoles_checksum: int = at(56, "u64")


@dataclass(frozen=True, slots=True)
class ManifestConsole(Layout):
    """One console of the manifest."""

    SIZE: ClassVar[int] = 48

    base: int = at(0, "u64")
    map_pages: int = at(8, "u64")
    name: bytes = at(16, "bytes", 8)
    clk_in_hz: int = at(24, "u64")
    baud_rate: int = at(32, "u64")
    flags: int = at(40, "u64")


def boot_manifest(platform: Platform, address: int) -> bytes:
    """The manifest for a platform, placed at ``address``, with its arrays behind it: at most one granule."""
    banks = b"".join(struct.pack("<QQ", r.base, r.size) for r in platform.delegable_ranges())
    uart = platform.device(CONSOLE)
    console = ManifestConsole(
        base=uart.base,
        map_pages=uart.size // GRANULE_SIZE,
        name=b"pl011\0\0\0",
        clk_in_hz=CONSOLE_CLOCK_HZ,
        baud_rate=CONSOLE_BAUD,
    ).pack()
    banks_at = address + Manifest.SIZE
    consoles_at = banks_at + len(banks)
    num_banks = len(banks) // 16
    manifest = Manifest(
        version=MANIFEST_VERSION,
        num_banks=num_banks,
        banks=banks_at,
        banks_checksum=_checksum(num_banks, banks_at, banks),
        num_consoles=1,
        consoles=consoles_at,
        consoles_checksum=_checksum(1, consoles_at, console),
    )
    return manifest.pack() + banks + console


def cold_boot_arguments(platform: Platform, index: int, shared_buffer: int) -> Sequence[int]:
    """x0-x3 of the RMM's cold boot."""
    return (index, INTERFACE_VERSION, len(platform.mpidrs), shared_buffer)


def warm_boot_arguments(index: int) -> Sequence[int]:
    """x0-x3 of the RMM's boot on a further PE."""
    return (index, 0, 0, 0)


def _checksum(count: int, pointer: int, array: bytes) -> int:
    """What makes the sum of count, pointer, checksum and all words of the array zero modulo 2^64."""
    words: tuple[int, ...] = struct.unpack(f"<{len(array) // 8}Q", array)
    return -(count + pointer + sum(words)) & _WORD
