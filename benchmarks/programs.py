"""What the benchmarks run on PEs: a few words of AArch64 code each, with their assembly."""

from typing import Final

ALU: Final[tuple[int, ...]] = (
    0xAA00_03F4,  # mov x20, x0
    0xAA01_03F5,  # mov x21, x1
    0xAA14_03E9,  # mov x9, x20
    0x9100_054A,  # add x10, x10, #0x1
    0xCA0A_016B,  # eor x11, x11, x10
    0x8B0B_0D8C,  # add x12, x12, x11, lsl #3
    0xCB0A_018D,  # sub x13, x12, x10
    0xAA0B_01AE,  # orr x14, x13, x11
    0xF100_0529,  # subs x9, x9, #0x1
    0x54FF_FF41,  # b.ne .-24
    0xD280_3320,  # mov x0, #0x199
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA15_03E1,  # mov x1, x21
    0xD400_0003,  # smc #0x0
    0x17FF_FFF4,  # b .-48
)
"""Six data-processing instructions and a branch. X0: rounds, X1: RsiHostCall structure. Leaves by RSI_HOST_CALL."""
ALU_LOOP: Final = slice(3, 10)
"""The words of its loop, which counts X9 down."""
LOAD_STORE: Final[tuple[int, ...]] = (
    0xAA00_03F4,  # mov x20, x0
    0xAA01_03F5,  # mov x21, x1
    0xAA02_03F6,  # mov x22, x2
    0xAA14_03E9,  # mov x9, x20
    0xF86E_6ACA,  # ldr x10, [x22, x14]
    0x8B09_014A,  # add x10, x10, x9
    0xF82E_6ACA,  # str x10, [x22, x14]
    0x9100_21CE,  # add x14, x14, #0x8
    0x9240_3DCE,  # and x14, x14, #0xffff
    0xF100_0529,  # subs x9, x9, #0x1
    0x54FF_FF41,  # b.ne .-24
    0xD280_3320,  # mov x0, #0x199
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA15_03E1,  # mov x1, x21
    0xD400_0003,  # smc #0x0
    0x17FF_FFF4,  # b .-48
)
"""One load and one store among seven instructions, over 64 KB. X0: rounds, X1: RsiHostCall, X2: data."""
LOAD_STORE_LOOP: Final = slice(4, 11)
"""The words of its loop, which counts X9 down."""
EXITS: Final[tuple[int, ...]] = (
    0xAA01_03F5,  # mov x21, x1
    0xD280_3320,  # mov x0, #0x199
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA15_03E1,  # mov x1, x21
    0xD400_0003,  # smc #0x0
    0x17FF_FFFC,  # b .-16
)
"""RSI_HOST_CALL and nothing else. X1: RsiHostCall structure."""
TLB_FILLS: Final[tuple[int, ...]] = (
    0xAA00_03F4,  # mov x20, x0
    0xAA01_03F5,  # mov x21, x1
    0xAA02_03F6,  # mov x22, x2
    0xD288_8089,  # mov x9, #0x4404
    0xD518_A209,  # msr mair_el1, x9
    0xD518_2003,  # msr ttbr0_el1, x3
    0xD518_2044,  # msr tcr_el1, x4
    0xD503_3FDF,  # isb
    0xD538_1009,  # mrs x9, sctlr_el1
    0xB240_0129,  # orr x9, x9, #0x1
    0xD518_1009,  # msr sctlr_el1, x9
    0xD503_3FDF,  # isb
    0xD508_871F,  # tlbi vmalle1
    0xD503_3F9F,  # dsb sy
    0xD503_3FDF,  # isb
    0xAA14_03E9,  # mov x9, x20
    0xAA16_03EA,  # mov x10, x22
    0xF940_014B,  # ldr x11, [x10]
    0x9140_054A,  # add x10, x10, #0x1, lsl #12
    0xF100_0529,  # subs x9, x9, #0x1
    0x54FF_FFA1,  # b.ne .-12
    0xD280_3320,  # mov x0, #0x199
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA15_03E1,  # mov x1, x21
    0xD400_0003,  # smc #0x0
    0x17FF_FFF3,  # b .-52
)
"""TLBI, then a load from each of X0 pages from X2 on; X3: TTBR0_EL1, X4: TCR_EL1, X1: RsiHostCall structure.

Turns the MMU on first: the code must be mapped where it is.
"""
TOKEN: Final[tuple[int, ...]] = (
    0xAA00_03F4,  # mov x20, x0
    0xAA01_03F5,  # mov x21, x1
    0xAA02_03F6,  # mov x22, x2
    0xD280_3280,  # mov x0, #0x194
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA14_03E1,  # mov x1, x20
    0xAA14_03E2,  # mov x2, x20
    0xAA14_03E3,  # mov x3, x20
    0xAA14_03E4,  # mov x4, x20
    0xAA14_03E5,  # mov x5, x20
    0xAA14_03E6,  # mov x6, x20
    0xAA14_03E7,  # mov x7, x20
    0xAA14_03E8,  # mov x8, x20
    0xD400_0003,  # smc #0x0
    0xD280_32A0,  # mov x0, #0x195
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA16_03E1,  # mov x1, x22
    0xD280_0002,  # mov x2, #0x0
    0xD282_0003,  # mov x3, #0x1000
    0xD400_0003,  # smc #0x0
    0xF100_0C1F,  # cmp x0, #0x3
    0x54FF_FF20,  # b.eq .-28
    0xF900_06A1,  # str x1, [x21, #8]
    0xD280_3320,  # mov x0, #0x199
    0xF2B8_8000,  # movk x0, #0xc400, lsl #16
    0xAA15_03E1,  # mov x1, x21
    0xD400_0003,  # smc #0x0
    0x17FF_FFE8,  # b .-96
)
"""An attestation token for the challenge X0 (eight times) into the page X2; X1: RsiHostCall structure.

Its size is left in gprs[0] of the structure.
"""
CALLS: Final[tuple[int, ...]] = (
    0xAA15_03E0,  # mov x0, x21
    0xAA16_03E1,  # mov x1, x22
    0xAA17_03E2,  # mov x2, x23
    0xD400_0003,  # smc #0x0
    0xF100_0694,  # subs x20, x20, #0x1
    0x54FF_FF61,  # b.ne .-20
    0xD280_0100,  # mov x0, #0x8
    0xF2B0_8000,  # movk x0, #0x8400, lsl #16
    0xD400_0003,  # smc #0x0
    0x1400_0000,  # b .
)
"""At NS-EL2: X20 times SMC with X0-X2 = X21-X23, then PSCI SYSTEM_OFF."""
