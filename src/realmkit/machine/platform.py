"""A platform as data: memory map, processing elements, devices, carve-outs (spec: host-platform)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_MASK, Pas

MPIDR_MT: Final = 1 << 24
MPIDR_RES1: Final = 1 << 31
MPIDR_AFFINITY: Final = 0xFF_00FF_FFFF
"""Aff3 and Aff2..Aff0 of MPIDR_EL1: what PSCI and the GIC name a PE by."""
PHYSICAL_ADDRESS_BITS: Final = (32, 36, 40, 42, 44, 48)
"""Sizes of a physical address space without LPA2."""
L0_REGION_SHIFT: Final = 30
"""log2 of the bytes that one level 0 entry of the GPT describes (GPCCR_EL3.L0GPTSZ = 1 GB)."""
L1_TABLE_SIZE: Final = 1 << 17
"""Bytes of a level 1 GPT of 1 GB with 4 KB granules: 1/8192 of what it describes."""


@dataclass(frozen=True, slots=True, order=True)
class AddressRange:
    """``size`` bytes of physical address space from ``base``."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """First address after the range."""
        return self.base + self.size

    def contains(self, pa: int, size: int = 1) -> bool:
        """Whether all of [pa, pa + size) lies inside."""
        return self.base <= pa and pa + size <= self.base + self.size

    def overlaps(self, other: "AddressRange") -> bool:
        """Whether the ranges share an address."""
        return self.base < other.end and other.base < self.end

    def without(self, holes: Iterable["AddressRange"]) -> tuple["AddressRange", ...]:
        """What is left of the range outside ``holes``, ascending."""
        left, start = [], self.base
        for hole in sorted(h for h in holes if h.overlaps(self)):
            if hole.base > start:
                left.append(AddressRange(start, hole.base - start))
            start = max(start, hole.end)
        if start < self.end:
            left.append(AddressRange(start, self.end - start))
        return tuple(left)

    def __str__(self) -> str:
        return f"[{self.base:#x}, {self.end:#x})"


@dataclass(frozen=True, slots=True)
class DeviceRange:
    """Where a device's registers answer, in which physical address spaces, and its interrupts."""

    name: str
    base: int
    size: int
    intids: tuple[int, ...] = ()
    pas: frozenset[Pas] = frozenset({Pas.NS})

    @property
    def range(self) -> AddressRange:
        """The addresses."""
        return AddressRange(self.base, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What software and the machine need to know of a board. Raises RealmkitError when it contradicts itself.

    ``rmm`` is the RMM's own memory (Realm PAS) and ``gpt`` the level 1 granule protection tables of DRAM (Root PAS,
    128 KB for each gigabyte that holds DRAM); both lie in DRAM and are not delegable. ``gpt_root`` is Root memory
    outside DRAM with the level 0 table and the level 1 tables of gigabytes without DRAM. ``mpidrs`` are affinities, in
    the order of linear PE numbers.
    """

    name: str
    dram: tuple[AddressRange, ...]
    root: tuple[AddressRange, ...]
    secure: tuple[AddressRange, ...]
    devices: tuple[DeviceRange, ...]
    mpidrs: tuple[int, ...]
    rmm: AddressRange
    gpt: AddressRange
    gpt_root: AddressRange
    pa_bits: int = 48

    def __post_init__(self) -> None:
        if self.pa_bits not in PHYSICAL_ADDRESS_BITS:
            raise RealmkitError(
                f"platform {self.name}: {self.pa_bits} physical address bits are not one of the sizes of PPS"
            )
        everything = sorted((*self.ram(), *(d.range for d in self.devices)))
        for lower, upper in pairwise(everything):
            if lower.overlaps(upper):
                raise RealmkitError(f"platform {self.name}: {lower} and {upper} overlap")
        for span in (*everything, self.rmm, self.gpt, self.gpt_root):
            if span.base < 0 or span.size <= 0 or (span.base | span.size) & GRANULE_MASK:
                raise RealmkitError(f"platform {self.name}: {span} is not a whole number of granules")
            if span.end > 1 << self.pa_bits:
                raise RealmkitError(
                    f"platform {self.name}: {span} does not fit into {self.pa_bits} physical address bits"
                )
        for carve_out in (self.rmm, self.gpt):
            if not any(bank.contains(carve_out.base, carve_out.size) for bank in self.dram):
                raise RealmkitError(f"platform {self.name}: carve-out {carve_out} is not inside DRAM")
        if self.rmm.overlaps(self.gpt):
            raise RealmkitError(f"platform {self.name}: the carve-outs {self.rmm} and {self.gpt} overlap")
        if self.gpt.base % L1_TABLE_SIZE or self.gpt.size < L1_TABLE_SIZE * len(self.dram_regions()):
            raise RealmkitError(
                f"platform {self.name}: {self.gpt} does not hold a level 1 GPT for each gigabyte of DRAM"
            )
        l0_size = 8 << max(self.pa_bits - L0_REGION_SHIFT, 0)
        if self.gpt_root.base % l0_size or not any(
            r.contains(self.gpt_root.base, self.gpt_root.size) for r in self.root
        ):
            raise RealmkitError(f"platform {self.name}: {self.gpt_root} cannot hold the level 0 GPT")
        if (
            not self.mpidrs
            or len(set(self.mpidrs)) != len(self.mpidrs)
            or any(m & ~MPIDR_AFFINITY for m in self.mpidrs)
        ):
            raise RealmkitError(f"platform {self.name}: PEs need distinct affinity values without other MPIDR bits")

    def ram(self) -> tuple[AddressRange, ...]:
        """All memory, DRAM first."""
        return (*self.dram, *self.secure, *self.root)

    def nonsecure_ram(self) -> tuple[AddressRange, ...]:
        """DRAM that belongs to the Host after boot, ascending: all but the carve-outs."""
        holes = (self.rmm, self.gpt)
        return tuple(part for bank in sorted(self.dram) for part in bank.without(holes))

    def delegable_ranges(self) -> tuple[AddressRange, ...]:
        """Memory that the Host may delegate to the Realm world, ascending."""
        return self.nonsecure_ram()

    def dram_regions(self) -> tuple[int, ...]:
        """Numbers of the gigabytes (level 0 regions) that hold DRAM, ascending."""
        numbers = {
            n for bank in self.dram for n in range(bank.base >> L0_REGION_SHIFT, (bank.end - 1 >> L0_REGION_SHIFT) + 1)
        }
        return tuple(sorted(numbers))

    def mpidr(self, index: int) -> int:
        """MPIDR_EL1 of a PE as software reads it: affinities, MT and the RES1 bit."""
        return MPIDR_RES1 | MPIDR_MT | self.mpidrs[index]

    def pe_of(self, affinity: int) -> int | None:
        """Linear number of the PE with this affinity value, None when there is none or other bits are set."""
        try:
            return self.mpidrs.index(affinity)
        except ValueError:
            return None

    def device(self, name: str) -> DeviceRange:
        """A device by name; raises RealmkitError when the platform has none of this name."""
        for device in self.devices:
            if device.name == name:
                return device
        raise RealmkitError(f"platform {self.name} has no device {name!r}: {', '.join(d.name for d in self.devices)}")
