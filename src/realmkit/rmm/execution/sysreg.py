"""Trapped system register accesses of a Realm (spec: rec-run section 8)."""

from typing import TYPE_CHECKING, Final

from realmkit.arch.esr import ISS_SYSREG
from realmkit.arch.rmi import ExitReason
from realmkit.arch.smccc import MASK64
from realmkit.arch.sysregs import ENCODINGS, NAMES, Encoding
from realmkit.machine.port import El2Port
from realmkit.rmm.execution import inject
from realmkit.rmm.execution.exits import leave, resume
from realmkit.rmm.state import Realm, Rec

if TYPE_CHECKING:
    from realmkit.rmm.rmm import Rmm

_FORWARDED: Final = frozenset(
    ENCODINGS[name] for name in ("ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1", "ICC_DIR_EL1")
)
"""Writes that are the Host's to carry out: it holds the distributor."""
_EXIT_MASK: Final = (1 << 32) - 1 & ~ISS_SYSREG.mask("Rt")
"""The number of the register that held the value stays with the Realm."""
_IMPLEMENTATION_DEFINED: Final = frozenset({11, 15})
"""CRn of system registers and instructions that the architecture leaves to implementations (op0 1 and 3)."""
_EL2_AND_ABOVE: Final = 4
"""First op1 of registers and instructions that do not exist at EL1."""

_VISIBLE: Final = {
    ENCODINGS["ID_AA64PFR0_EL1"]: ~(0xF << 32 | 0xF << 40 | 0xF << 44),  # SVE, MPAM, AMU
    ENCODINGS["ID_AA64PFR1_EL1"]: ~(0xF << 8 | 0xF << 16 | 0xF << 24),  # MTE, MPAM_frac, SME
    # TraceVer, PMUVer, PMSS, SEBEP, CTX_CMPs, PMSVer, TraceFilt, TraceBuffer, BRBE, ExtTrcBuff. BRPs and WRPs are the
    # Realm's own.
    ENCODINGS["ID_AA64DFR0_EL1"]: ~(0xFF << 4 | 0xFFF << 12 | 0xFF << 24 | 0xF << 32 | 0xFF << 40 | 0xFF << 52),
    ENCODINGS["ID_AA64DFR1_EL1"]: 0,
    ENCODINGS["ID_AA64ISAR0_EL1"]: -1,
    ENCODINGS["ID_AA64ISAR1_EL1"]: -1,
    ENCODINGS["ID_AA64MMFR0_EL1"]: -1,
    ENCODINGS["ID_AA64MMFR1_EL1"]: -1,
    ENCODINGS["ID_AA64MMFR2_EL1"]: -1,
}
"""Fields of identification registers that a Realm may see; registers that are not listed read as zero."""
_DEBUG_FEATURES: Final = ENCODINGS["ID_AA64DFR0_EL1"]
_BRPS_SHIFT, _WRPS_SHIFT = 12, 20


def on_access(rmm: "Rmm", port: El2Port, rec: Rec, esr: int) -> None:
    """Forward to the Host, emulate (identification registers; all else reads as zero, ignores writes), or refuse."""
    get = ISS_SYSREG.get
    place = (get(esr, "Op0"), get(esr, "Op1"), get(esr, "CRn"), get(esr, "CRm"), get(esr, "Op2"))
    read, rt = get(esr, "READ"), get(esr, "Rt")
    ctx = rec.ctx
    op0, op1, crn, _, _ = place
    if op1 >= _EL2_AND_ABOVE or (op0 & 1 and crn in _IMPLEMENTATION_DEFINED):
        inject.undefined(ctx)
        resume(rmm, port, rec)
        return
    ctx.pc = ctx.pc + 4 & MASK64
    if not read and place in _FORWARDED:
        value = 0 if rt == 31 else ctx.x[rt]
        leave(rmm, port, rec, ExitReason.SYNC, esr=esr & _EXIT_MASK, gprs=(value,))
        return
    if read and rt != 31:
        ctx.x[rt] = _value(port, rec.realm, place)
    resume(rmm, port, rec)


def _value(port: El2Port, realm: Realm, place: Encoding) -> int:
    """What a Realm reads: the PE's identification registers without what Realms do not have, else zero."""
    visible = _VISIBLE.get(place)
    if not visible:
        return 0
    value = port.id_register(NAMES[place]) & visible
    if place == _DEBUG_FEATURES:
        value |= realm.num_bps << _BRPS_SHIFT | realm.num_wps << _WRPS_SHIFT
    return value
