"""The registers of one world on one PE at EL2 and below."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Protocol

from realmkit.arch.gic import IchState

PSTATE_EL0T = 0x0
PSTATE_EL1T = 0x4
PSTATE_EL1H = 0x5
PSTATE_EL2T = 0x8
PSTATE_EL2H = 0x9
PSTATE_DAIF = 0x3C0
PSTATE_RESET_EL1 = PSTATE_DAIF | PSTATE_EL1H
PSTATE_RESET_EL2 = PSTATE_DAIF | PSTATE_EL2H


class Backing(Protocol):
    """An execution engine that currently caches a context's system registers."""

    def read_register(self, name: str) -> int:
        """Current value of a register that the engine holds."""

    def write_register(self, name: str, value: int) -> None:
        """Change a register that the engine holds."""


@dataclass(slots=True, eq=False)
class CpuContext:
    """Architectural state of software that a PE runs at EL2 and below in one security state.

    EL2 software that is a Python object (the RMM, a Python Host) programs the EL2 registers of the context
    that it enters (HCR_EL2, VTTBR_EL2, VTCR_EL2, VMPIDR_EL2, ...) and reads ESR_EL2, FAR_EL2, HPFAR_EL2 after an
    exception, through :meth:`read` and :meth:`write`. ``x``, ``pc`` and ``pstate`` are current whenever EL2 or EL3
    software runs. Registers never written read as zero (their reset values are the creator's to set).
    """

    x: list[int] = field(default_factory=lambda: [0] * 31)
    pc: int = 0
    pstate: int = PSTATE_RESET_EL1
    ich: IchState = field(default_factory=IchState)
    regs: dict[str, int] = field(default_factory=dict)
    """Values by architectural name (``SCTLR_EL1``, ``SP_EL0``, ``CNTV_CTL_EL0``, ``DBGWVR0_EL1``...).

    Use :meth:`read` and :meth:`write`: an engine may hold newer values.
    """
    v: list[int] = field(default_factory=lambda: [0] * 32)
    fpcr: int = 0
    fpsr: int = 0
    backing: Backing | None = None
    held: Container[str] = ()
    """Names of the registers whose current values ``backing`` has."""

    def read(self, name: str) -> int:
        """Current value of a system register (0 if never written)."""
        if name in self.held and self.backing is not None:
            return self.backing.read_register(name)
        return self.regs.get(name, 0)

    def write(self, name: str, value: int) -> None:
        """Set a system register."""
        self.regs[name] = value
        if name in self.held and self.backing is not None:
            self.backing.write_register(name, value)
