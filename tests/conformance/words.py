"""Instruction words of the small Realm programs: an assembler for what the tests need (Arm ARM C4, C6)."""

from realmkit.arch.sysregs import encoding_of

Code = list[int]

NOP, WFE, WFI, SEVL, ISB, ERET = 0xD503_201F, 0xD503_205F, 0xD503_207F, 0xD503_20BF, 0xD503_3FDF, 0xD69F_03E0
SVC, HVC, SMC = 0xD400_0001, 0xD400_0002, 0xD400_0003
HERE = 0x1400_0000
"""b ."""
XZR = 31


def mov(rd: int, value: int) -> Code:
    """A 64-bit constant: MOVZ, and MOVK for each further halfword that is not zero."""
    halves = [(n, value >> 16 * n & 0xFFFF) for n in range(4)]
    wanted = [half for half in halves if half[1]] or [(0, 0)]
    (first, low), *rest = wanted
    return [0xD280_0000 | first << 21 | low << 5 | rd, *(0xF280_0000 | n << 21 | v << 5 | rd for n, v in rest)]


def add(rd: int, rn: int, immediate: int) -> int:
    """ADD (immediate)."""
    return 0x9100_0000 | immediate << 10 | rn << 5 | rd


def b(words: int) -> int:
    """B over ``words`` instructions (negative: back)."""
    return 0x1400_0000 | words & 0x3FF_FFFF


def cbz(rt: int, words: int) -> int:
    """CBZ Xt."""
    return 0xB400_0000 | (words & 0x7_FFFF) << 5 | rt


def tbz(rt: int, bit: int, words: int) -> int:
    """TBZ Xt, for bits below 32."""
    return 0x3600_0000 | bit << 19 | (words & 0x3FFF) << 5 | rt


def br(rn: int) -> int:
    """BR."""
    return 0xD61F_0000 | rn << 5


def blr(rn: int) -> int:
    """BLR."""
    return 0xD63F_0000 | rn << 5


def ldst(size: int, opc: int, rt: int, rn: int, index: int = 0) -> int:
    """Load or store of one register, unsigned scaled offset: ``size`` is log2 of the bytes.

    ``opc`` 0: store, 1: load, 2: load and sign-extend to 64 bits, 3: to 32 bits.
    """
    return size << 30 | 0x3900_0000 | opc << 22 | index << 10 | rn << 5 | rt


def ldr(rt: int, rn: int, index: int = 0) -> int:
    """LDR Xt."""
    return ldst(3, 1, rt, rn, index)


def str_(rt: int, rn: int, index: int = 0) -> int:
    """STR Xt."""
    return ldst(3, 0, rt, rn, index)


def ldr_post(rt: int, rn: int, step: int) -> int:
    """LDR Xt with post-index: no syndrome."""
    return 0xF840_0400 | (step & 0x1FF) << 12 | rn << 5 | rt


def ldp(rt: int, rt2: int, rn: int) -> int:
    """LDP Xt, Xt2: no syndrome."""
    return 0xA940_0000 | rt2 << 10 | rn << 5 | rt


def ldxr(rt: int, rn: int) -> int:
    """LDXR Wt: no syndrome."""
    return 0x885F_7C00 | rn << 5 | rt


def mrs(rt: int, name: str) -> int:
    """MRS of a register by name or generic name."""
    return 0xD520_0000 | _place(name) | rt


def msr(name: str, rt: int) -> int:
    """MSR (register)."""
    return 0xD500_0000 | _place(name) | rt


def sys(op1: int, crn: int, crm: int, op2: int, rt: int) -> int:
    """SYS: cache, TLB and address translation instructions."""
    return 0xD508_0000 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


def daif_clear(mask: int) -> int:
    """MSR DAIFClr: D 8, A 4, I 2, F 1."""
    return 0xD503_40FF | mask << 8


def daif_set(mask: int) -> int:
    """MSR DAIFSet."""
    return 0xD503_40DF | mask << 8


def call(fid: int, *arguments: int) -> Code:
    """SMC with constants in X0.."""
    words: Code = []
    for register, value in enumerate((fid, *arguments)):
        words += mov(register, value)
    return [*words, SMC]


def _place(name: str) -> int:
    op0, op1, crn, crm, op2 = encoding_of(name)
    return op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
