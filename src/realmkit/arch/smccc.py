"""SMC calling convention (Arm DEN0028): function identifiers and ranges that the system routes by."""

MASK64 = (1 << 64) - 1
SVE_HINT = 1 << 16
"""Bit 16 of a function identifier: the caller has no live SVE state. Masked before dispatch."""
NOT_SUPPORTED = MASK64
"""-1 in X0: unknown function."""

SMCCC_VERSION = 0x8000_0000
SMCCC_ARCH_FEATURES = 0x8000_0001
VERSION_1_2 = 0x1_0002

STANDARD_SECURE64 = 0xC400_0000
RMI_RANGE = range(0xC400_0150, 0xC400_0190)
RSI_RANGE = range(0xC400_0190, 0xC400_01B0)
RMM_EL3_RANGE = range(0xC400_01B0, 0xC400_01D0)
PSCI32_RANGE = range(0x8400_0000, 0x8400_0020)
PSCI64_RANGE = range(0xC400_0000, 0xC400_0020)
FFA32_RANGE = range(0x8400_0060, 0x8400_0100)
FFA64_RANGE = range(0xC400_0060, 0xC400_0100)


def signed(value: int) -> int:
    """A 64-bit register value as a signed integer."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value


def unsigned(value: int) -> int:
    """A signed integer as a 64-bit register value."""
    return value & MASK64


# RMM to EL3 (spec: monitor-rme section 6)
RMI_REQ_COMPLETE = 0xC400_018F
GTSI_DELEGATE = 0xC400_01B0
GTSI_UNDELEGATE = 0xC400_01B1
ATTEST_GET_REALM_KEY = 0xC400_01B2
ATTEST_GET_PLAT_TOKEN = 0xC400_01B3
EL3_FEATURES = 0xC400_01B4
EL3_TOKEN_SIGN = 0xC400_01B5
RMM_BOOT_COMPLETE = 0xC400_01CF

EL3_NAMES = {
    RMI_REQ_COMPLETE: "RMI_REQ_COMPLETE",
    GTSI_DELEGATE: "GTSI_DELEGATE",
    GTSI_UNDELEGATE: "GTSI_UNDELEGATE",
    ATTEST_GET_REALM_KEY: "ATTEST_GET_REALM_KEY",
    ATTEST_GET_PLAT_TOKEN: "ATTEST_GET_PLAT_TOKEN",
    EL3_FEATURES: "EL3_FEATURES",
    EL3_TOKEN_SIGN: "EL3_TOKEN_SIGN",
    RMM_BOOT_COMPLETE: "RMM_BOOT_COMPLETE",
}

E_RMM_OK = 0
E_RMM_UNK = -1
E_RMM_BAD_ADDR = -2
E_RMM_BAD_PAS = -3
E_RMM_NOMEM = -4
E_RMM_INVAL = -5
E_RMM_AGAIN = -6
