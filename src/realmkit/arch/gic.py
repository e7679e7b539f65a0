"""GICv3 facts: interrupt numbers, list registers, the ICH_* register file (Arm IHI 0069; spec: rec-run section 5)."""

from dataclasses import dataclass, field

from realmkit.arch.fields import RegisterTable

PPI_PMU = 23
PPI_MAINTENANCE = 25
PPI_CNTHP = 26
PPI_CNTV = 27
PPI_CNTHV = 28
PPI_CNTP = 30
SPURIOUS = 1023
FIRST_PPI = 16
FIRST_SPI = 32
FIRST_SPECIAL = 1020
"""INTIDs 1020-1023 name no interrupt."""
FIRST_LPI = 8192

PRIORITY_BITS = 5
"""Implemented priority bits, [7:3], all of them preemption bits; physical and virtual alike."""
PRIORITY_MASK = 0xF8
IDLE_PRIORITY = 0xFF
"""Running priority while no interrupt is active."""
LIST_REGISTERS = 4
"""Implemented list registers, ICH_LR0_EL2 to ICH_LR3_EL2."""
GROUP0, GROUP1, GROUP1_SECURE = range(3)
"""Interrupt groups. GROUP1 is Non-secure Group 1, and the only Group 1 where there is a single security state."""

ICC_SGIR = RegisterTable(
    "ICC_SGI1R_EL1",
    TargetList=(0, 15),
    Aff1=(16, 23),
    INTID=(24, 27),
    Aff2=(32, 39),
    IRM=(40, 40),
    RS=(44, 47),
    Aff3=(48, 55),
)
"""ICC_SGI0R_EL1, ICC_SGI1R_EL1 and ICC_ASGI1R_EL1."""
ICC_CTLR = RegisterTable(
    "ICC_CTLR_EL1", CBPR=(0, 0), EOImode=(1, 1), PRIbits=(8, 10), IDbits=(11, 13), A3V=(15, 15), RSS=(18, 18)
)
ICH_LR = RegisterTable(
    "ICH_LR",
    vINTID=(0, 31),
    pINTID=(32, 44),
    EOI=(41, 41),
    Priority=(48, 55),
    Group=(60, 60),
    HW=(61, 61),
    State=(62, 63),
)
ICH_HCR = RegisterTable(
    "ICH_HCR_EL2",
    En=(0, 0),
    UIE=(1, 1),
    LRENPIE=(2, 2),
    NPIE=(3, 3),
    VGrp0EIE=(4, 4),
    VGrp0DIE=(5, 5),
    VGrp1EIE=(6, 6),
    VGrp1DIE=(7, 7),
    vSGIEOICount=(8, 8),
    TC=(10, 10),
    TALL0=(11, 11),
    TALL1=(12, 12),
    TSEI=(13, 13),
    TDIR=(14, 14),
    DVIM=(15, 15),
    EOIcount=(27, 31),
)
ICH_VMCR = RegisterTable(
    "ICH_VMCR_EL2",
    VENG0=(0, 0),
    VENG1=(1, 1),
    VAckCtl=(2, 2),
    VFIQEn=(3, 3),
    VCBPR=(4, 4),
    VEOIM=(9, 9),
    VBPR1=(18, 20),
    VBPR0=(21, 23),
    VPMR=(24, 31),
)
ICH_MISR = RegisterTable(
    "ICH_MISR_EL2",
    EOI=(0, 0),
    U=(1, 1),
    LRENP=(2, 2),
    NP=(3, 3),
    VGrp0E=(4, 4),
    VGrp0D=(5, 5),
    VGrp1E=(6, 6),
    VGrp1D=(7, 7),
)
ICH_VTR = RegisterTable(
    "ICH_VTR_EL2",
    ListRegs=(0, 4),
    TDS=(19, 19),
    nV4=(20, 20),
    A3V=(21, 21),
    SEIS=(22, 22),
    IDbits=(23, 25),
    PREbits=(26, 28),
    PRIbits=(29, 31),
)
LR_INVALID, LR_PENDING, LR_ACTIVE, LR_PENDING_ACTIVE = range(4)


@dataclass(slots=True)
class IchState:
    """GICv3 virtual CPU interface registers (ICH_*), programmed by EL2 software, consumed by ICC_* at EL1."""

    hcr: int = 0
    vmcr: int = 0
    ap0r: list[int] = field(default_factory=lambda: [0] * 4)
    ap1r: list[int] = field(default_factory=lambda: [0] * 4)
    lr: list[int] = field(default_factory=lambda: [0] * 16)
