"""What this RMM supports: RMI feature register 0 and limits (RMM 1.0-rel0 B4.4.6; spec: rmi section 1.5)."""

from typing import Final

from realmkit.arch.gic import LIST_REGISTERS
from realmkit.arch.rmi import FEATURE_REGISTER_0
from realmkit.machine.port import El2Port

IPA_WIDTH_MIN: Final = 32
IPA_WIDTH_MAX: Final = 48
"""Without LPA2."""
PA_LIMIT: Final = 1 << 48
"""First address that a descriptor without LPA2 cannot hold."""
MAX_RECS_ORDER: Final = 10
MAX_RECS: Final = (1 << MAX_RECS_ORDER) - 1
"""RECs of one Realm at a time."""
REC_AUX_COUNT: Final = 2
"""Auxiliary granules of a REC: one for its FP/SIMD and EL1 register file, one for the token that it generates."""

_ID_AA64MMFR1_VMID_BITS_SHIFT: Final = 4
_ID_AA64MMFR1_VMID_BITS_16: Final = 0b0010


def feature_register_0(port: El2Port) -> int:
    """RmiFeatureRegister0 on this platform: breakpoints and watchpoints are what its PEs have."""
    debug = port.id_register("ID_AA64DFR0_EL1")
    return FEATURE_REGISTER_0.make(
        S2SZ=IPA_WIDTH_MAX,
        NUM_BPS=debug >> 12 & 0xF,
        NUM_WPS=debug >> 20 & 0xF,
        HASH_SHA_256=1,
        HASH_SHA_512=1,
        GICV3_NUM_LRS=LIST_REGISTERS - 1,
        MAX_RECS_ORDER=MAX_RECS_ORDER,
    )


def vmid_limit(port: El2Port) -> int:
    """First VMID that is out of range: 16 bits with FEAT_VMID16, else 8."""
    bits = port.id_register("ID_AA64MMFR1_EL1") >> _ID_AA64MMFR1_VMID_BITS_SHIFT & 0xF
    return 1 << (16 if bits == _ID_AA64MMFR1_VMID_BITS_16 else 8)
