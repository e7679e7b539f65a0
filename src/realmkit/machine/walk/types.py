"""Values that translation takes and gives."""

from dataclasses import dataclass
from enum import IntEnum

from realmkit.arch.esr import FSC_GPF
from realmkit.arch.pas import Pas, SecurityState


class Kind(IntEnum):
    """What an access does."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


@dataclass(slots=True)
class Controls:
    """The registers that decide a translation, as a snapshot; software changes them rarely.

    ``el2`` selects the EL2 regime (non-VHE), otherwise it is EL1&0. Registers are those of the regime; the stage 2
    registers only matter to EL1&0 with HCR_EL2.VM set.
    """

    state: SecurityState
    el2: bool = False
    sctlr: int = 0
    tcr: int = 0
    ttbr0: int = 0
    ttbr1: int = 0
    mair: int = 0
    hcr: int = 0
    vtcr: int = 0
    vttbr: int = 0
    pa_bits: int = 48

    @property
    def stage2(self) -> bool:
        """Whether stage 2 translates."""
        return not self.el2 and bool(self.hcr & 1)


@dataclass(frozen=True, slots=True)
class Access:
    """One access: its kind, whether it is privileged (EL1 or EL2), and PSTATE.PAN."""

    kind: Kind
    privileged: bool = True
    pan: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """The 4 KB page that an address lies in: physical address, space, permissions at this privilege."""

    pa: int
    pas: Pas
    read: bool
    write: bool
    execute: bool
    device: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no translation: fault status code, the stage that found it, and what syndromes need.

    ``ipa`` is meaningful for stage 2 faults (HPFAR_EL2); ``s1ptw``: the access was a walk of stage 1.
    """

    fsc: int
    stage: int
    va: int
    kind: Kind
    ipa: int = 0
    s1ptw: bool = False

    @property
    def gpf(self) -> bool:
        """A granule protection fault."""
        return 0x23 <= self.fsc <= FSC_GPF
