"""Values that translation takes and gives."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from realmkit.arch.esr import FSC_GPF, FSC_GPF_WALK
from realmkit.arch.pas import Pas, SecurityState

UPDATE_TRIES: Final = 4
"""Walks until a descriptor that changes between reading and updating counts as one that cannot be updated."""
_HCR_VM: Final = 1 << 0
_HCR_DC: Final = 1 << 12
_HCR_TGE: Final = 1 << 27


class Kind(IntEnum):
    """What an access does."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


@dataclass(slots=True)
class Controls:
    """The registers that decide a translation, as a snapshot; software changes them rarely.

    ``el2`` selects the EL2 regime (non-VHE), otherwise it is EL1&0. ``sctlr``, ``tcr``, ``ttbr0``, ``ttbr1`` and
    ``mair`` are those of the regime; ``hcr``, ``vtcr`` and ``vttbr`` are the EL2 registers and matter to EL1&0 only.
    ``pa_bits`` is what the PE implements.
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
    def stage1(self) -> bool:
        """Whether stage 1 translates: SCTLR_ELx.M, which HCR_EL2.TGE and DC override for EL1&0."""
        return bool(self.sctlr & 1) and (self.el2 or not self.hcr & (_HCR_TGE | _HCR_DC))

    @property
    def stage2(self) -> bool:
        """Whether stage 2 translates: HCR_EL2.VM, which DC implies."""
        return not self.el2 and bool(self.hcr & (_HCR_VM | _HCR_DC))

    @property
    def default_cacheable(self) -> bool:
        """HCR_EL2.DC: stage 1, which is off, gives Normal memory."""
        return not self.el2 and bool(self.hcr & _HCR_DC)


class Access(NamedTuple):
    """One access: its kind, whether it is privileged (EL1 or EL2, but not LDTR and STTR), and PSTATE.PAN."""

    kind: Kind
    privileged: bool = True
    pan: bool = False


class Mapping(NamedTuple):
    """The 4 KB page that an address lies in: physical address, space, permissions at this privilege.

    ``write`` is False for a clean page whose dirty state hardware manages: the first write must translate again.
    ``not_global``: it belongs to one ASID. ``reach`` is log2 of the bytes that the stage 1 descriptor maps.
    ``device`` tells Device from Normal memory. An instruction fetch from Device memory that is not execute-never is
    permitted (the architecture leaves that open).
    """

    pa: int
    pas: Pas
    read: bool
    write: bool
    execute: bool
    device: bool
    not_global: bool = False
    reach: int = 12


class Fault(NamedTuple):
    """Why there is no translation: fault status code, the stage that found it, and what syndromes need.

    ``ipa`` is meaningful for stage 2 faults (HPFAR_EL2); ``s1ptw``: the access was a walk of stage 1. ``kind`` is
    WRITE for a hardware update of a descriptor.
    """

    fsc: int
    stage: int
    va: int
    kind: Kind
    ipa: int = 0
    s1ptw: bool = False

    @property
    def gpf(self) -> bool:
        """A granule protection fault, on a walk or on the access itself."""
        return FSC_GPF_WALK - 1 <= self.fsc <= FSC_GPF


class StageFault(Exception):
    """A fault that ends a translation: the status code with its level, found by ``stage`` for address ``ipa``.

    ``write``: the access that failed was a hardware update of a descriptor.
    """

    def __init__(self, fsc: int, stage: int = 1, ipa: int = 0, s1ptw: bool = False, write: bool = False) -> None:
        super().__init__(fsc)
        self.fsc, self.stage, self.ipa, self.s1ptw, self.write = fsc, stage, ipa, s1ptw, write
