"""Launch plans: the exact sequence of operations that builds a Realm, as a pure value (architecture decision 10).

``host.vmm`` makes a plan, ``host.hypervisor`` executes it, ``attestation`` predicts the RIM from it.
"""

from dataclasses import dataclass, field

from realmkit.arch.rmi import HashAlgorithm


@dataclass(frozen=True, slots=True)
class RealmConfiguration:
    """Parameters of RMI_REALM_CREATE that the owner cares about, as the structure encodes them.

    ``num_bps`` and ``num_wps`` hold "count - 1"; ``rpv`` is 64 bytes. VMID and table addresses are the
    hypervisor's to choose (they are not measured).
    """

    ipa_width: int
    hash_algo: HashAlgorithm
    rpv: bytes = bytes(64)
    flags: int = 0
    sve_vl: int = 0
    num_bps: int = 1
    num_wps: int = 1
    pmu_num_ctrs: int = 0
    rtt_level_start: int = 1
    rtt_num_start: int = 1


@dataclass(frozen=True, slots=True)
class CreateTable:
    """RMI_RTT_CREATE of the table at ``level`` that covers ``ipa``. Not measured, but shapes later measurements."""

    ipa: int
    level: int


@dataclass(frozen=True, slots=True)
class InitRipas:
    """RMI_RTT_INIT_RIPAS over [base, top), repeated until done. Measured once per table entry at ``level``.

    ``level`` is the level of the entries that the range is made of (the plan creates tables first so that this holds).
    """

    base: int
    top: int
    level: int


@dataclass(frozen=True, slots=True)
class LoadPage:
    """RMI_DATA_CREATE of one 4096-byte page; ``measured`` selects RMI_MEASURE_CONTENT."""

    ipa: int
    content: bytes
    measured: bool = True


@dataclass(frozen=True, slots=True)
class CreateRec:
    """RMI_REC_CREATE; ``gprs`` are X0..X7."""

    mpidr: int
    pc: int
    gprs: tuple[int, ...] = (0,) * 8
    runnable: bool = True


Step = CreateTable | InitRipas | LoadPage | CreateRec


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """A Realm's configuration and its construction steps in order; activation follows the last step."""

    realm: RealmConfiguration
    steps: tuple[Step, ...] = field(default_factory=tuple)
    ram: tuple[tuple[int, int], ...] = ()
    """Protected [base, top) ranges that are RAM: populated by steps, the rest on demand."""
