"""What the RMM remembers: granules, Realms, RECs (RMM 1.0-rel0 A2, B; spec: rmi sections 2 and 3)."""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from realmkit.arch.rmi import HashAlgorithm, Ripas, Status
from realmkit.machine.port import CpuContext


class Refusal(Exception):
    """A command's failure condition holds: nothing has been changed.

    ``label`` is the specification's name of the condition; ``outputs`` are X1.. where the command defines outputs on
    failure (the "top" values), otherwise empty and returned as zeros.
    """

    def __init__(self, label: str, status: Status, index: int = 0, outputs: tuple[int, ...] = ()) -> None:
        super().__init__(label)
        self.label, self.status, self.index, self.outputs = label, status, index, outputs


class GranuleState(Enum):
    """RMM state of a delegable granule; a granule not in the tracker is UNDELEGATED."""

    UNDELEGATED = "UNDELEGATED"
    DELEGATED = "DELEGATED"
    RD = "RD"
    REC = "REC"
    REC_AUX = "REC_AUX"
    DATA = "DATA"
    RTT = "RTT"


class RealmState(Enum):
    """Life cycle of a Realm."""

    NEW = "NEW"
    ACTIVE = "ACTIVE"
    SYSTEM_OFF = "SYSTEM_OFF"


@dataclass(frozen=True, slots=True)
class RealmAttestation:
    """What the RMM got from the Monitor at boot to make tokens with (spec: monitor-rme section 7)."""

    key: ec.EllipticCurvePrivateKey
    """The Realm attestation key (RAK), P-384."""
    cose_key: bytes
    """Its public half as COSE_Key."""
    platform_token: bytes
    """Signed over the hash of ``cose_key``; the same for all Realms."""


class AttestState(Enum):
    """Token generation of a REC (spec: attestation section 8)."""

    NONE = "NONE"
    IN_PROGRESS = "IN_PROGRESS"


@dataclass(slots=True, eq=False)
class Realm:
    """A Realm descriptor: attributes of the object that the RD granule stands for."""

    rd: int
    ipa_width: int
    hash_algo: HashAlgorithm
    rpv: bytes
    vmid: int
    rtt_base: int
    rtt_level_start: int
    rtt_num_start: int
    flags: int = 0
    sve_vl: int = 0
    num_bps: int = 1
    num_wps: int = 1
    pmu_num_ctrs: int = 0
    state: RealmState = RealmState.NEW
    measurements: list[bytes] = field(default_factory=lambda: [bytes(64)] * 5)
    """RIM, REM0..REM3, 64 bytes each, zero-extended."""
    rec_index: int = 0
    num_recs: int = 0
    page_table_block: int = -1
    """IPA >> 21 of the last walk that reached a level 3 table, which is ``page_table``; -1 if there is none.

    Coherent because whoever removes a table resets it (RTT_DESTROY, RTT_FOLD), and nothing else moves
    a level 3 table.
    """
    page_table: int = 0
    unprotected_base: int = field(init=False)
    """First Unprotected IPA."""
    ipa_top: int = field(init=False)
    """First address outside the IPA space."""

    def __post_init__(self) -> None:
        self.unprotected_base = 1 << (self.ipa_width - 1)
        self.ipa_top = 1 << self.ipa_width

    def is_protected(self, ipa: int, size: int = 1) -> bool:
        """Whether the whole of [ipa, ipa + size) is Protected."""
        return ipa + size <= self.unprotected_base


@dataclass(slots=True)
class PendingPsci:
    """A CPU_ON or AFFINITY_INFO request that waits for RMI_PSCI_COMPLETE."""

    fid: int
    mpidr: int
    entry: int = 0
    context_id: int = 0


@dataclass(slots=True)
class RipasRequest:
    """A RIPAS change that the Realm asked for; ``addr`` is the progress so far."""

    addr: int
    top: int
    value: Ripas
    change_destroyed: bool


class UnprotectedAbort(NamedTuple):
    """The last exit was a data abort at an Unprotected IPA: what the Host's answer to it needs."""

    esr: int
    far: int

    @property
    def emulatable(self) -> bool:
        """Whether the syndrome describes the access (ISV), so that the Host was told enough to emulate it."""
        return bool(self.esr >> 24 & 1)


@dataclass(slots=True, eq=False)
class Rec:
    """A Realm execution context: attributes of the object that the REC granule stands for."""

    pa: int
    realm: Realm
    mpidr: int
    ctx: CpuContext
    aux: tuple[int, ...] = ()
    runnable: bool = False
    running: bool = False
    unprotected_abort: UnprotectedAbort | None = None
    """Decides whether emul_mmio and inject_sea apply to the next entry."""
    psci_pending: PendingPsci | None = None
    run_ptr: int = 0
    """The RecRun page of the present run."""
    timer_masks: int = 0
    """CNTHCTL_EL2 mask bits of timers whose last exit reported them asserted."""
    host_call_ipa: int | None = None
    ripas: RipasRequest | None = None
    attest_state: AttestState = AttestState.NONE
    token_payload: bytes = b""
    """Claims of the Realm token in progress, as they were when RSI_ATTESTATION_TOKEN_INIT was called."""
    token_slices: int = 0
    """Slices of signing that are done."""
    token: bytes = b""
    """The CCA token once it is signed."""
    token_cursor: int = 0
    """Bytes of ``token`` that the Realm has."""
