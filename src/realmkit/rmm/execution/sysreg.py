"""Trapped system register accesses of a Realm (spec: rec-run section 8)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import ISS_SYSREG
from realmkit.arch.rmi import ExitReason
from realmkit.arch.smccc import MASK64
from realmkit.machine.port import El2Port
from realmkit.rmm.execution import inject
from realmkit.rmm.execution.exits import leave
from realmkit.rmm.state import Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_FORWARDED: Final = frozenset({(3, 0, 12, 11, 5), (3, 0, 12, 11, 7), (3, 0, 12, 11, 6), (3, 0, 12, 11, 1)})
"""ICC_SGI1R_EL1, ICC_SGI0R_EL1, ICC_ASGI1R_EL1, ICC_DIR_EL1."""
_ID_REGISTERS: Final = {
    (4, 0): "ID_AA64PFR0_EL1",
    (4, 1): "ID_AA64PFR1_EL1",
    (4, 4): "ID_AA64ZFR0_EL1",
    (5, 0): "ID_AA64DFR0_EL1",
    (5, 1): "ID_AA64DFR1_EL1",
    (6, 0): "ID_AA64ISAR0_EL1",
    (6, 1): "ID_AA64ISAR1_EL1",
    (6, 2): "ID_AA64ISAR2_EL1",
    (7, 0): "ID_AA64MMFR0_EL1",
    (7, 1): "ID_AA64MMFR1_EL1",
    (7, 2): "ID_AA64MMFR2_EL1",
}
_VISIBLE: Final = {
    # AMU, SVE, RME and the EL2, EL3 that a Realm does not have.
    "ID_AA64PFR0_EL1": ~(0xF << 44 | 0xF << 32 | 0xF << 52) & MASK64,
    # MTE, SME.
    "ID_AA64PFR1_EL1": ~(0xF << 8 | 0xF << 24) & MASK64,
    # Trace, PMU, SPE, trace filter, trace buffer, BRBE.
    "ID_AA64DFR0_EL1": ~(0xFF << 4 | 0xF << 32 | 0xF << 40 | 0xF << 44 | 0xF << 52) & MASK64,
    "ID_AA64DFR1_EL1": 0,
    "ID_AA64ZFR0_EL1": 0,
}
_IMPLEMENTATION_DEFINED: Final = (11, 15)


def on_access(rmm: "Rmm", port: El2Port, rec: Rec, esr: int) -> None:
    """Emulate, forward to the Host, or refuse."""
    get = ISS_SYSREG.get
    place = (get(esr, "Op0"), get(esr, "Op1"), get(esr, "CRn"), get(esr, "CRm"), get(esr, "Op2"))
    read, rt = get(esr, "READ"), get(esr, "Rt")
    ctx = rec.ctx
    if place[0] == 3 and place[2] in _IMPLEMENTATION_DEFINED:
        inject.undefined(ctx)
        port.enter(ctx)
        return
    ctx.pc = ctx.pc + 4 & MASK64
    if not read and place in _FORWARDED:
        value = 0 if rt == 31 else ctx.x[rt]
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr, gprs=(value,))
        return
    if read and rt != 31:
        ctx.x[rt] = _identification(port, rec, place)
    port.enter(ctx)


def _identification(port: El2Port, rec: Rec, place: tuple[int, ...]) -> int:
    """Value of an identification register as a Realm may see it; everything else reads as zero."""
    if place[:3] != (3, 0, 0):
        return 0
    name = _ID_REGISTERS.get((place[3], place[4]))
    if name is None:
        return 0
    value = port.id_register(name) & _VISIBLE.get(name, MASK64)
    if name == "ID_AA64DFR0_EL1":
        value = value & ~(0xF << 12 | 0xF << 20) | rec.realm.num_bps << 12 | rec.realm.num_wps << 20
    return value
