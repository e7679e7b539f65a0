"""PSCI 1.1 function identifiers and return codes (Arm DEN0022; spec: rec-run section 11)."""

from enum import IntEnum

from realmkit.arch.smccc import unsigned

VERSION = 0x8400_0000
CPU_SUSPEND_32, CPU_SUSPEND = 0x8400_0001, 0xC400_0001
CPU_OFF = 0x8400_0002
CPU_ON_32, CPU_ON = 0x8400_0003, 0xC400_0003
AFFINITY_INFO_32, AFFINITY_INFO = 0x8400_0004, 0xC400_0004
MIGRATE_INFO_TYPE = 0x8400_0006
SYSTEM_OFF = 0x8400_0008
SYSTEM_RESET = 0x8400_0009
FEATURES = 0x8400_000A

NAMES = {
    VERSION: "VERSION",
    CPU_SUSPEND_32: "CPU_SUSPEND",
    CPU_SUSPEND: "CPU_SUSPEND",
    CPU_OFF: "CPU_OFF",
    CPU_ON_32: "CPU_ON",
    CPU_ON: "CPU_ON",
    AFFINITY_INFO_32: "AFFINITY_INFO",
    AFFINITY_INFO: "AFFINITY_INFO",
    MIGRATE_INFO_TYPE: "MIGRATE_INFO_TYPE",
    SYSTEM_OFF: "SYSTEM_OFF",
    SYSTEM_RESET: "SYSTEM_RESET",
    FEATURES: "FEATURES",
}

VERSION_1_1 = 0x1_0001


class PsciStatus(IntEnum):
    """Return codes; :attr:`x0` is the register form."""

    SUCCESS = 0
    OFF = 1
    NOT_SUPPORTED = -1
    INVALID_PARAMETERS = -2
    DENIED = -3
    ALREADY_ON = -4
    ON_PENDING = -5
    INTERNAL_FAILURE = -6
    NOT_PRESENT = -7
    DISABLED = -8
    INVALID_ADDRESS = -9

    @property
    def x0(self) -> int:
        """The code as a 64-bit register value."""
        return unsigned(self.value)
