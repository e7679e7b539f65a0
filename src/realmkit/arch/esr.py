"""Exception syndromes (Arm ARM D24, ESR_ELx)."""

from enum import IntEnum
from typing import Final

from realmkit.arch.fields import RegisterTable
from realmkit.arch.smccc import MASK64


class Ec(IntEnum):
    """Exception classes that this machine produces."""

    UNKNOWN = 0x00
    WFX = 0x01
    FP_ACCESS = 0x07
    ILLEGAL_STATE = 0x0E
    SVC64 = 0x15
    HVC64 = 0x16
    SMC64 = 0x17
    SYSREG = 0x18
    SVE_ACCESS = 0x19
    SME_ACCESS = 0x1D
    GPC = 0x1E
    IABT_LOWER = 0x20
    IABT_SAME = 0x21
    PC_ALIGN = 0x22
    DABT_LOWER = 0x24
    DABT_SAME = 0x25
    SP_ALIGN = 0x26
    FP_EXCEPTION = 0x2C
    SERROR = 0x2F
    BREAKPOINT_LOWER = 0x30
    BREAKPOINT_SAME = 0x31
    STEP_LOWER = 0x32
    STEP_SAME = 0x33
    WATCHPOINT_LOWER = 0x34
    WATCHPOINT_SAME = 0x35
    BRK = 0x3C


ESR = RegisterTable("ESR", ISS=(0, 24), IL=(25, 25), EC=(26, 31))
ISS_DABT = RegisterTable(
    "ISS(data abort)",
    DFSC=(0, 5),
    WnR=(6, 6),
    S1PTW=(7, 7),
    CM=(8, 8),
    EA=(9, 9),
    FnV=(10, 10),
    SET=(11, 12),
    VNCR=(13, 13),
    AR=(14, 14),
    SF=(15, 15),
    SRT=(16, 20),
    SSE=(21, 21),
    SAS=(22, 23),
    ISV=(24, 24),
)
DABT_STATUS: Final = ISS_DABT.mask("DFSC")
DABT_WNR: Final = ISS_DABT.mask("WnR")
DABT_SF: Final = ISS_DABT.mask("SF")
DABT_SSE: Final = ISS_DABT.mask("SSE")
DABT_ISV: Final = ISS_DABT.mask("ISV")
DABT_SRT_SHIFT: Final = ISS_DABT.bits["SRT"][0]
DABT_SRT_MAX: Final = 31
DABT_SAS_SHIFT: Final = ISS_DABT.bits["SAS"][0]
DABT_SAS_MAX: Final = 3
"""Masks and places for what every emulated access to a device looks at."""
ISS_SYSREG = RegisterTable(
    "ISS(system register)", READ=(0, 0), CRm=(1, 4), Rt=(5, 9), CRn=(10, 13), Op1=(14, 16), Op2=(17, 19), Op0=(20, 21)
)

FSC_ADDRESS_SIZE = 0x00  # + level
FSC_TRANSLATION = 0x04  # + level
FSC_ACCESS_FLAG = 0x08  # + level
FSC_PERMISSION = 0x0C  # + level
FSC_EXTERNAL = 0x10
FSC_EXTERNAL_WALK = 0x14  # + level
FSC_ALIGNMENT = 0x21
FSC_DEBUG = 0x22
FSC_GPF_WALK = 0x24  # + level
FSC_GPF = 0x28
FSC_TLB_CONFLICT = 0x30
FSC_UNSUPPORTED_ATOMIC = 0x31  # hardware update of a descriptor

IL = 1 << 25


def make_esr(ec: Ec, iss: int = 0, il: int = 1) -> int:
    """An ESR value from class, syndrome and instruction length bit."""
    return int(ec) << 26 | il << 25 | iss


def exception_class(esr: int) -> int:
    """EC field of an ESR value."""
    return esr >> 26 & 0x3F


def loaded(esr: int, value: int) -> int:
    """What a load that the syndrome describes puts into its register when its access gives ``value``."""
    bits = 8 << (esr >> DABT_SAS_SHIFT & DABT_SAS_MAX)
    value &= (1 << bits) - 1
    if esr & DABT_SSE and value >> (bits - 1):
        value |= MASK64 & ~((1 << bits) - 1)
    return value if esr & DABT_SF else value & 0xFFFF_FFFF
