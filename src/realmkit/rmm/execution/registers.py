"""Registers of a REC: reset values, and what the RMM programs at EL2 (spec: rec-run section 10, rtt section 10)."""

from typing import Final

from realmkit.arch.gic import ICH_VMCR, PRIORITY_BITS
from realmkit.arch.rmi import RecParams
from realmkit.arch.vmsa import HCR_EL2, VTCR_EL2
from realmkit.machine.port import PSTATE_RESET_EL1, CpuContext, El2Port, IchState
from realmkit.rmm.features import vmid_limit
from realmkit.rmm.state import Realm

SCTLR_EL1_RESET: Final = 0xC5_0878
"""RES1 bits: MMU and caches off."""
SCTLR_EE: Final = 1 << 25
HCR: Final = HCR_EL2.make(
    VM=1,
    SWIO=1,
    PTW=1,
    FMO=1,
    IMO=1,
    AMO=1,
    FB=1,  # the Realm's own TLB and instruction cache maintenance reaches every PE that its RECs may run on
    BSU=1,
    TID3=1,
    TSC=1,
    TIDCP=1,
    RW=1,
    E2H=1,
    TEA=1,
    APK=1,
    API=1,
    FWB=1,
)
"""Every REC's HCR_EL2; TWI and TWE are the Host's choice at each entry, VSE a virtual SError that is pending."""
HCR_TWI: Final = HCR_EL2.mask("TWI")
HCR_TWE: Final = HCR_EL2.mask("TWE")
HCR_VSE: Final = HCR_EL2.mask("VSE")
CNTHCTL: Final = 0xC00
"""CNTHCTL_EL2 with E2H: EL1PCTEN, EL1PTEN. The Realm uses counters and timers without traps."""
_VMCR_RESET: Final = ICH_VMCR.make(VBPR0=7 - PRIORITY_BITS, VBPR1=8 - PRIORITY_BITS)
"""ICH_VMCR_EL2: the binary points as the Realm reads them, which are the smallest that there are."""
_SL0: Final = {0: 2, 1: 1, 2: 0}
_PS_48: Final = 5
_VMIDS_8_BIT: Final = 1 << 8


def initial(port: El2Port, realm: Realm, params: RecParams) -> CpuContext:
    """The context of a new REC."""
    context = CpuContext(
        x=[*params.gprs, *[0] * 23], pc=params.pc, pstate=PSTATE_RESET_EL1, ich=IchState(vmcr=_VMCR_RESET)
    )
    context.regs.update(
        {
            "SCTLR_EL1": SCTLR_EL1_RESET,
            "PMCR_EL0": 0x60,  # LC, DP
            "MDSCR_EL1": 0x1000,  # TDCC
            "CNTHCTL_EL2": CNTHCTL,
            "VMPIDR_EL2": 1 << 31 | params.mpidr & 0xFF_FFFF | (params.mpidr >> 24 & 0xFF) << 32,
            "VPIDR_EL2": port.id_register("MIDR_EL1"),
            "HCR_EL2": HCR,
            "VTTBR_EL2": realm.rtt_base | realm.vmid << 48,
            "VTCR_EL2": VTCR_EL2.make(
                T0SZ=64 - realm.ipa_width,
                SL0=_SL0[realm.rtt_level_start],
                IRGN0=1,
                ORGN0=1,
                SH0=3,
                PS=_PS_48,
                VS=int(vmid_limit(port) > _VMIDS_8_BIT),
            ),
        }
    )
    return context
