"""The way across worlds: what software of one security state sees of its PE and of memory.

The RMM, the Host and the Monitor are given objects of these types by the machine. Nothing else of ``machine`` may be
imported by ``rmm`` or ``host`` (import-linter enforces it): SMCs with registers, and memory that the granule protection
check allows, are the only ways from one world to another.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from realmkit.arch.events import EventHub
from realmkit.arch.gic import IchState
from realmkit.arch.pas import Gpi, Pas, SecurityState
from realmkit.machine.context import (
    PSTATE_DAIF,
    PSTATE_EL0T,
    PSTATE_EL1H,
    PSTATE_EL1T,
    PSTATE_EL2H,
    PSTATE_RESET_EL1,
    PSTATE_RESET_EL2,
    CpuContext,
)

__all__ = [
    "PSTATE_DAIF",
    "PSTATE_EL0T",
    "PSTATE_EL1H",
    "PSTATE_EL1T",
    "PSTATE_EL2H",
    "PSTATE_RESET_EL1",
    "PSTATE_RESET_EL2",
    "Bus",
    "CpuContext",
    "El2Port",
    "El2Software",
    "El3Port",
    "El3Software",
    "ExceptionInfo",
    "ExceptionKind",
    "ExternalAbort",
    "GranuleProtectionFault",
    "HostPort",
    "IchState",
]


class GranuleProtectionFault(Exception):
    """An access of Python software failed the granule protection check, as real software would take an abort."""

    def __init__(self, pas: Pas, pa: int, gpi: Gpi | None, write: bool) -> None:
        self.pas, self.pa, self.gpi, self.write = pas, pa, gpi, write
        held = "outside the protected range" if gpi is None else f"assigned to {gpi.name}"
        kind = "write" if write else "read"
        super().__init__(f"granule protection fault: {pas.name} {kind} of {pa:#x}, which is {held}")


class ExternalAbort(Exception):
    """Nothing answers at this physical address, or the device refuses the access."""

    def __init__(self, pas: Pas, pa: int, size: int, write: bool) -> None:
        self.pas, self.pa, self.size, self.write = pas, pa, size, write
        super().__init__(f"external abort: {'write' if write else 'read'} of {size} bytes at {pas.name} {pa:#x}")


class Bus(Protocol):
    """Physical memory as one security state may use it: every access names a PAS and passes the granule check.

    All methods raise :class:`GranuleProtectionFault` or :class:`ExternalAbort` and then have changed nothing. Naming a
    PAS that the state cannot reach (Arm ARM D1.4) raises RealmkitError: hardware has no way to express it.
    """

    @property
    def state(self) -> SecurityState:
        """The security state this bus is bound to."""

    def read(self, pas: Pas, pa: int, size: int) -> bytes:
        """Read ``size`` bytes (any alignment; may span granules, all of which are checked first)."""

    def write(self, pas: Pas, pa: int, data: bytes) -> None:
        """Write bytes (any alignment; may span granules, all of which are checked first)."""

    def read64(self, pas: Pas, pa: int) -> int:
        """Read an aligned 64-bit little-endian word: the hot path of table walks."""

    def write64(self, pas: Pas, pa: int, value: int) -> None:
        """Write an aligned 64-bit little-endian word."""

    def zero(self, pas: Pas, pa: int, size: int) -> None:
        """Fill with zeros."""


class ExceptionKind(Enum):
    """The four vectors of an exception level."""

    SYNC = "sync"
    IRQ = "irq"
    FIQ = "fiq"
    SERROR = "serror"


class ExceptionInfo(NamedTuple):
    """An exception taken to EL2: also left in ESR_EL2, FAR_EL2, HPFAR_EL2 of the context.

    For an SMC trap (EC 0x17) the context's pc is the SMC itself (preferred return address, as architecture
    has it for a trap): software that completes the call adds 4.
    """

    kind: ExceptionKind
    esr: int = 0
    far: int = 0
    hpfar: int = 0


class El2Port(Protocol):
    """A PE as software at EL2 of one security state sees it."""

    @property
    def index(self) -> int:
        """Number of the PE, from 0."""

    @property
    def state(self) -> SecurityState:
        """Security state of this software."""

    @property
    def bus(self) -> Bus:
        """Memory."""

    @property
    def events(self) -> EventHub:
        """Where to report events."""

    @property
    def refusal(self) -> str | None:
        """Introspection, not architecture: label of the condition that refused the last RMI call of this PE."""

    @refusal.setter
    def refusal(self, label: str | None) -> None: ...

    def smc(self, fid: int, *args: int) -> tuple[int, ...]:
        """Execute SMC with X0 = ``fid``, X1.. = ``args`` (rest 0); returns X0-X7.

        From the Host it may suspend the caller while a REC runs. From the RMM, RMI_REQ_COMPLETE hands the
        PE to the Non-secure state: the RMM must return to its caller at once and the result is empty.
        """

    def now(self) -> int:
        """Virtual time of this PE in ticks (CNTPCT)."""

    def charge(self, ticks: int) -> None:
        """Let virtual time pass for work done by this software."""

    def id_register(self, name: str) -> int:
        """Value of a read-only identification register (``ID_AA64PFR0_EL1``, ``MIDR_EL1``, ``CNTFRQ_EL0``...)."""

    def read(self, name: str) -> int:
        """Read an EL2-accessible system register of this PE and state that is not part of a guest's context."""

    def write(self, name: str, value: int) -> None:
        """Write such a register (``CNTHP_CVAL_EL2``, ``CNTHP_CTL_EL2``, ``ICC_PMR_EL1``...)."""

    def enter(self, ctx: CpuContext) -> None:
        """ERET to EL1 or EL0 with this context. The RMM returns to its caller at once; the PE then runs the context
        until an exception goes to EL2, which calls :meth:`El2Software.on_exception`.
        """

    def wait_for_interrupt(self) -> None:
        """WFI by a Python Host: suspends it until an interrupt is pending. Not for the RMM."""

    def release(self, ctx: CpuContext) -> None:
        """The context will not be entered again: the machine may forget it."""

    def interrupt_pending(self) -> bool:
        """Whether a physical interrupt that would leave the Realm for the Host is pending on this PE."""

    def tlbi_vmid(self, vmid: int) -> None:
        """TLBI VMALLS12E1IS: forget stage 1 and 2 translations of a VMID of this security state, on all PEs."""

    def tlbi_ipa(self, vmid: int, ipa: int, size: int) -> None:
        """TLBI IPAS2E1IS over a range."""


class HostPort(El2Port, Protocol):
    """A PE as a Python Host at NS-EL2 sees it: :meth:`enter` returns when the context has left."""

    @property
    def last_exit(self) -> ExceptionInfo:
        """The exception that ended the last :meth:`enter`."""


class El2Software(Protocol):
    """Python software at Realm EL2."""

    def boot(self, port: El2Port, x: Sequence[int]) -> None:
        """Cold or warm boot of a PE with X0-X3 (spec: monitor-rme section 5); ends with SMC RMM_BOOT_COMPLETE."""

    def on_smc(self, port: El2Port, x: Sequence[int]) -> None:
        """Entered from EL3 with X0-X7 of a Non-secure RMI call. Must end with exactly one of ``port.enter(ctx)``
        or ``port.smc(RMI_REQ_COMPLETE, x0, x1, x2, x3, x4)`` and then return.
        """

    def on_exception(self, port: El2Port, ctx: CpuContext, exc: ExceptionInfo) -> None:
        """An exception of the entered context reached EL2. Same ending rule as :meth:`on_smc`."""


class El3Port(Protocol):
    """A PE as the Monitor sees it."""

    @property
    def index(self) -> int:
        """Number of the PE."""

    @property
    def bus(self) -> Bus:
        """Memory with all four physical address spaces."""

    @property
    def events(self) -> EventHub:
        """Where to report events."""

    def now(self) -> int:
        """Virtual time in ticks."""

    def charge(self, ticks: int) -> None:
        """Let virtual time pass for firmware work."""

    def invoke(self, state: SecurityState, x: Sequence[int]) -> None:
        """World switch: enter EL2 of another state at its SMC entry with X0-X7. Returns when that software has
        finished its part: it has either called back with an SMC that ends in :meth:`complete`, or left code running.
        """

    def resume(self, state: SecurityState, x: Sequence[int] | None = None) -> None:
        """Switch to code of the Non-secure or Secure state, with X0-X7 if given; no SMC is completed by it."""

    def complete(self, state: SecurityState, x: Sequence[int]) -> None:
        """Finish the SMC that software of ``state`` has outstanding on this PE with X0-X7, switching to that state."""

    def tlbi_pa(self, pa: int, size: int) -> None:
        """TLBI RPALOS: forget cached granule protection information for a range, on all PEs."""

    def cpu_on(self, target: int, entry: int, context_id: int) -> None:
        """Power up another PE in the Non-secure state at EL2, X0 = ``context_id``."""

    def cpu_off(self) -> None:
        """Power down this PE."""

    def cpu_is_on(self, target: int) -> bool:
        """Whether a PE is powered."""

    def system_off(self, reason: str) -> None:
        """End the run (PSCI SYSTEM_OFF)."""

    def system_reset(self) -> None:
        """Reset the machine (PSCI SYSTEM_RESET)."""


class El3Software(Protocol):
    """Python software at EL3: the Monitor."""

    def on_smc(self, port: El3Port, state: SecurityState, x: Sequence[int]) -> None:
        """Software of ``state`` executed SMC with X0-X7 at EL2 (or at Non-secure EL1).

        Ends with ``port.complete(state, results)`` unless control went elsewhere.
        """
