"""Realm Management Interface 1.0: identifiers, statuses, layouts (RMM 1.0-rel0 B4; spec: rmi sections 1 and 4)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from realmkit.arch.fields import Layout, RegisterTable, at
from realmkit.arch.pas import GRANULE_SIZE

ABI_VERSION = 0x1_0000


class Status(IntEnum):
    """Status in bits 7:0 of X0."""

    SUCCESS = 0
    ERROR_INPUT = 1
    ERROR_REALM = 2
    ERROR_REC = 3
    ERROR_RTT = 4


def pack_status(status: Status, index: int = 0) -> int:
    """X0 of an RMI result: status in 7:0, index in 15:8 (a level of -1 becomes 0xFF)."""
    return int(status) | (index & 0xFF) << 8


@dataclass(frozen=True, slots=True)
class ReturnCode:
    """A decoded X0."""

    status: Status
    index: int

    @classmethod
    def unpack(cls, x0: int) -> "ReturnCode":
        """Split X0; raises ValueError for a value that RMI 1.0 does not define (such as -1)."""
        if x0 >> 16:
            raise ValueError(f"{x0:#x} is not an RMI 1.0 return code")
        return cls(Status(x0 & 0xFF), x0 >> 8)

    def __str__(self) -> str:
        if self.status in (Status.ERROR_RTT, Status.ERROR_REALM):
            return f"RMI_{self.status.name}({self.index})"
        return f"RMI_{self.status.name}" if self.status else "RMI_SUCCESS"


class Rmi(IntEnum):
    """Function identifiers."""

    VERSION = 0xC400_0150
    GRANULE_DELEGATE = 0xC400_0151
    GRANULE_UNDELEGATE = 0xC400_0152
    DATA_CREATE = 0xC400_0153
    DATA_CREATE_UNKNOWN = 0xC400_0154
    DATA_DESTROY = 0xC400_0155
    REALM_ACTIVATE = 0xC400_0157
    REALM_CREATE = 0xC400_0158
    REALM_DESTROY = 0xC400_0159
    REC_CREATE = 0xC400_015A
    REC_DESTROY = 0xC400_015B
    REC_ENTER = 0xC400_015C
    RTT_CREATE = 0xC400_015D
    RTT_DESTROY = 0xC400_015E
    RTT_MAP_UNPROTECTED = 0xC400_015F
    RTT_READ_ENTRY = 0xC400_0161
    RTT_UNMAP_UNPROTECTED = 0xC400_0162
    PSCI_COMPLETE = 0xC400_0164
    FEATURES = 0xC400_0165
    RTT_FOLD = 0xC400_0166
    REC_AUX_COUNT = 0xC400_0167
    RTT_INIT_RIPAS = 0xC400_0168
    RTT_SET_RIPAS = 0xC400_0169


INPUTS: dict[Rmi, tuple[str, ...]] = {
    Rmi.VERSION: ("req",),
    Rmi.GRANULE_DELEGATE: ("addr",),
    Rmi.GRANULE_UNDELEGATE: ("addr",),
    Rmi.DATA_CREATE: ("rd", "data", "ipa", "src", "flags"),
    Rmi.DATA_CREATE_UNKNOWN: ("rd", "data", "ipa"),
    Rmi.DATA_DESTROY: ("rd", "ipa"),
    Rmi.REALM_ACTIVATE: ("rd",),
    Rmi.REALM_CREATE: ("rd", "params_ptr"),
    Rmi.REALM_DESTROY: ("rd",),
    Rmi.REC_CREATE: ("rd", "rec", "params_ptr"),
    Rmi.REC_DESTROY: ("rec",),
    Rmi.REC_ENTER: ("rec", "run_ptr"),
    Rmi.RTT_CREATE: ("rd", "rtt", "ipa", "level"),
    Rmi.RTT_DESTROY: ("rd", "ipa", "level"),
    Rmi.RTT_MAP_UNPROTECTED: ("rd", "ipa", "level", "desc"),
    Rmi.RTT_READ_ENTRY: ("rd", "ipa", "level"),
    Rmi.RTT_UNMAP_UNPROTECTED: ("rd", "ipa", "level"),
    Rmi.PSCI_COMPLETE: ("calling_rec", "target_rec", "status"),
    Rmi.FEATURES: ("index",),
    Rmi.RTT_FOLD: ("rd", "ipa", "level"),
    Rmi.REC_AUX_COUNT: ("rd",),
    Rmi.RTT_INIT_RIPAS: ("rd", "base", "top"),
    Rmi.RTT_SET_RIPAS: ("rd", "rec", "base", "top"),
}
"""Names of X1.. on input."""

OUTPUTS: dict[Rmi, tuple[str, ...]] = {
    Rmi.VERSION: ("lower", "higher"),
    Rmi.DATA_DESTROY: ("data", "top"),
    Rmi.RTT_DESTROY: ("rtt", "top"),
    Rmi.RTT_READ_ENTRY: ("walk_level", "state", "desc", "ripas"),
    Rmi.RTT_UNMAP_UNPROTECTED: ("top",),
    Rmi.FEATURES: ("value",),
    Rmi.RTT_FOLD: ("rtt",),
    Rmi.REC_AUX_COUNT: ("aux_count",),
    Rmi.RTT_INIT_RIPAS: ("out_top",),
    Rmi.RTT_SET_RIPAS: ("out_top",),
}
"""Names of X1.. on output; commands not listed have none."""

FEATURE_REGISTER_0 = RegisterTable(
    "RMI_FEATURES[0]",
    S2SZ=(0, 7),
    LPA2=(8, 8),
    SVE_EN=(9, 9),
    SVE_VL=(10, 13),
    NUM_BPS=(14, 19),
    NUM_WPS=(20, 25),
    PMU_EN=(26, 26),
    PMU_NUM_CTRS=(27, 31),
    HASH_SHA_256=(32, 32),
    HASH_SHA_512=(33, 33),
    GICV3_NUM_LRS=(34, 37),
    MAX_RECS_ORDER=(38, 41),
)


class HashAlgorithm(IntEnum):
    """RmiHashAlgorithm."""

    SHA_256 = 0
    SHA_512 = 1

    @property
    def hashlib_name(self) -> str:
        """Name for hashlib.new."""
        return "sha256" if self is HashAlgorithm.SHA_256 else "sha512"

    @property
    def claim_name(self) -> str:
        """Name in token claims (IANA, lower case)."""
        return "sha-256" if self is HashAlgorithm.SHA_256 else "sha-512"

    @property
    def digest_size(self) -> int:
        """Digest length in bytes."""
        return 32 if self is HashAlgorithm.SHA_256 else 64


class Ripas(IntEnum):
    """Realm IPA state."""

    EMPTY = 0
    RAM = 1
    DESTROYED = 2


class RttEntryState(IntEnum):
    """RmiRttEntryState as RTT_READ_ENTRY reports it."""

    UNASSIGNED = 0
    ASSIGNED = 1
    TABLE = 2


class ExitReason(IntEnum):
    """RmiRecExitReason."""

    SYNC = 0
    IRQ = 1
    FIQ = 2
    PSCI = 3
    RIPAS_CHANGE = 4
    HOST_CALL = 5
    SERROR = 6


DATA_MEASURE_CONTENT = 1 << 0
REC_RUNNABLE = 1 << 0
REALM_FLAG_LPA2 = 1 << 0
REALM_FLAG_SVE = 1 << 1
REALM_FLAG_PMU = 1 << 2
ENTER_EMUL_MMIO = 1 << 0
ENTER_INJECT_SEA = 1 << 1
ENTER_TRAP_WFI = 1 << 2
ENTER_TRAP_WFE = 1 << 3
ENTER_RIPAS_REJECT = 1 << 4
GICV3_HCR_HOST_MASK = 0x40FE
MAX_REC_AUX = 16


@dataclass(slots=True)
class RealmParams(Layout):
    """RmiRealmParams."""

    SIZE: ClassVar[int] = GRANULE_SIZE
    flags: int = at(0x000, "u64")
    s2sz: int = at(0x008, "u8")
    sve_vl: int = at(0x010, "u8")
    num_bps: int = at(0x018, "u8")
    num_wps: int = at(0x020, "u8")
    pmu_num_ctrs: int = at(0x028, "u8")
    hash_algo: int = at(0x030, "u8")
    rpv: bytes = at(0x400, "bytes", 64)
    vmid: int = at(0x800, "u16")
    rtt_base: int = at(0x808, "u64")
    rtt_level_start: int = at(0x810, "s64")
    rtt_num_start: int = at(0x818, "u32")


@dataclass(slots=True)
class RecParams(Layout):
    """RmiRecParams."""

    SIZE: ClassVar[int] = GRANULE_SIZE
    flags: int = at(0x000, "u64")
    mpidr: int = at(0x100, "u64")
    pc: int = at(0x200, "u64")
    gprs: tuple[int, ...] = at(0x300, "u64", 8)
    num_aux: int = at(0x800, "u64")
    aux: tuple[int, ...] = at(0x808, "u64", 16)


@dataclass(slots=True)
class RecEnter(Layout):
    """RmiRecEnter: first half of the RecRun page."""

    SIZE: ClassVar[int] = 0x800
    flags: int = at(0x000, "u64")
    gprs: tuple[int, ...] = at(0x200, "u64", 31)
    gicv3_hcr: int = at(0x300, "u64")
    gicv3_lrs: tuple[int, ...] = at(0x308, "u64", 16)


@dataclass(slots=True)
class RecExit(Layout):
    """RmiRecExit: second half of the RecRun page (offset 0x800)."""

    SIZE: ClassVar[int] = 0x800
    exit_reason: int = at(0x000, "u8")
    esr: int = at(0x100, "u64")
    far: int = at(0x108, "u64")
    hpfar: int = at(0x110, "u64")
    gprs: tuple[int, ...] = at(0x200, "u64", 31)
    gicv3_hcr: int = at(0x300, "u64")
    gicv3_lrs: tuple[int, ...] = at(0x308, "u64", 16)
    gicv3_misr: int = at(0x388, "u64")
    gicv3_vmcr: int = at(0x390, "u64")
    cntp_ctl: int = at(0x400, "u64")
    cntp_cval: int = at(0x408, "u64")
    cntv_ctl: int = at(0x410, "u64")
    cntv_cval: int = at(0x418, "u64")
    ripas_base: int = at(0x500, "u64")
    ripas_top: int = at(0x508, "u64")
    ripas_value: int = at(0x510, "u8")
    imm: int = at(0x600, "u16")
    pmu_ovf_status: int = at(0x700, "u8")


REC_EXIT_OFFSET = 0x800


def mpidr_to_index(mpidr: int) -> int:
    """REC index of an RmiRecMpidr value (spec: rmi section 3.5)."""
    return (mpidr & 0xF) | (mpidr >> 8 & 0xFF) << 4 | (mpidr >> 16 & 0xFF) << 12 | (mpidr >> 24 & 0xFF) << 20


def index_to_mpidr(index: int) -> int:
    """RmiRecMpidr of the REC with this index."""
    return (index & 0xF) | (index >> 4 & 0xFF) << 8 | (index >> 12 & 0xFF) << 16 | (index >> 20 & 0xFF) << 24


def negotiate(supported: tuple[int, ...], requested: int) -> tuple[bool, int, int]:
    """Version negotiation of RMI and RSI: (accepted, lower, higher) (spec: rmi section 1.4)."""
    higher = max(supported)
    if requested in supported:
        return True, requested, higher
    below = [v for v in supported if v < requested]
    return False, max(below) if below else higher, higher
