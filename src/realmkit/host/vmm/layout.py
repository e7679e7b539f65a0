"""The guest physical memory map, as kvmtool has it: RAM at 2 GB, devices below it.

A Realm reaches the devices through the Unprotected alias of these addresses.
"""

from dataclasses import dataclass
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.plan import RealmConfiguration
from realmkit.arch.rmi import FEATURE_REGISTER_0, HashAlgorithm
from realmkit.arch.vmsa import entry_size, starting_tables

RAM_BASE: Final = 0x8000_0000
UART_BASE: Final = 0x0100_0000
UART_SIZE: Final = 0x1000
UART_INTID: Final = 33
GICD_BASE: Final = 0x3FFF_0000
GICD_SIZE: Final = 0x1_0000
GICR_SIZE: Final = 0x2_0000
"""For each VCPU; redistributors end where the distributor begins."""
SPIS: Final = 64
BLOCK: Final = entry_size(2)
MAX_MEMORY: Final = 1 << 40
MAX_VCPUS: Final = 256
MIN_IPA_WIDTH: Final = 33
LOW_MEMORY: Final = 256 << 20
"""Initrd and devicetree lie near the end of the first 256 MB, or of RAM when it is smaller."""


@dataclass(frozen=True, slots=True)
class VmConfig:
    """What a user asks for: ``memory`` in bytes, ``vcpus``, and the Realm's measured parameters.

    Raises RealmkitError when it cannot be.
    """

    memory: int
    vcpus: int = 1
    hash_algo: HashAlgorithm = HashAlgorithm.SHA_256
    rpv: bytes = bytes(64)

    def __post_init__(self) -> None:
        if self.memory < BLOCK or self.memory % BLOCK:
            raise RealmkitError(f"memory of {self.memory} bytes is not possible: use a multiple of 2M, at least 2M")
        if self.memory > MAX_MEMORY:
            raise RealmkitError(f"memory of {self.memory} bytes is not possible: a guest has at most 1T")
        if not 1 <= self.vcpus <= MAX_VCPUS:
            raise RealmkitError(f"{self.vcpus} VCPUs are not possible: use 1 to {MAX_VCPUS}")
        if len(self.rpv) > 64:
            raise RealmkitError(f"a Realm personalization value has at most 64 bytes, got {len(self.rpv)}")

    @property
    def ram_top(self) -> int:
        """First guest address after RAM."""
        return RAM_BASE + self.memory

    @property
    def gicr_base(self) -> int:
        """First redistributor."""
        return GICD_BASE - GICR_SIZE * self.vcpus

    def realm(self, features: int) -> RealmConfiguration:
        """Realm parameters for a platform with this RMI feature register 0: all its breakpoints and watchpoints."""
        width = max(MIN_IPA_WIDTH, (self.ram_top - 1).bit_length() + 1)
        largest = FEATURE_REGISTER_0.get(features, "S2SZ")
        if width > largest:
            raise RealmkitError(f"memory of {self.memory} bytes needs {width} IPA bits, the platform offers {largest}")
        start = 1 if starting_tables(width, 1) else 0
        count = starting_tables(width, start)
        if count is None:
            raise RealmkitError(f"no starting level fits an IPA width of {width}")
        return RealmConfiguration(
            ipa_width=width,
            hash_algo=self.hash_algo,
            rpv=self.rpv.ljust(64, b"\0"),
            num_bps=FEATURE_REGISTER_0.get(features, "NUM_BPS"),
            num_wps=FEATURE_REGISTER_0.get(features, "NUM_WPS"),
            rtt_level_start=start,
            rtt_num_start=count,
        )
