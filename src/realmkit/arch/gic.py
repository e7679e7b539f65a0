"""GICv3 facts: interrupt numbers, list registers, the ICH_* register file (Arm IHI 0069; spec: rec-run section 5)."""

from dataclasses import dataclass, field

from realmkit.arch.fields import RegisterTable

PPI_PMU = 23
PPI_CNTHP = 26
PPI_CNTV = 27
PPI_CNTHV = 28
PPI_CNTP = 30
SPURIOUS = 1023

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
LR_INVALID, LR_PENDING, LR_ACTIVE, LR_PENDING_ACTIVE = range(4)


@dataclass(slots=True)
class IchState:
    """GICv3 virtual CPU interface registers (ICH_*), programmed by EL2 software, consumed by ICC_* at EL1."""

    hcr: int = 0
    vmcr: int = 0
    ap0r: list[int] = field(default_factory=lambda: [0] * 4)
    ap1r: list[int] = field(default_factory=lambda: [0] * 4)
    lr: list[int] = field(default_factory=lambda: [0] * 16)
