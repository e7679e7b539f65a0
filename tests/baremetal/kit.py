"""Small Host images as instruction words, and runs of machines that hold them."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realmkit.baremetal import BareMetal, Configuration, Limits, PlacedImage, Result, place

PAYLOADS = Path(__file__).resolve().parent.parent / "payloads"
EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples/baremetal-host/baremetal-host.elf"
CODE = 0x8800_0000
PARAMETERS = 0x8F00_0000
TICKS = 500_000_000
"""More than any of these images needs: a run that does not end fails instead of hanging."""

WFI = 0xD503_207F
WFE = 0xD503_205F
SMC = 0xD400_0003
B_SELF = 0x1400_0000
UDF = 0x0000_0000
ERET = 0xD69F_03E0


def movz(rd: int, value: int, shift: int = 0) -> int:
    """MOVZ Xd, #value, LSL #shift."""
    return 0xD280_0000 | shift // 16 << 21 | value << 5 | rd


def movk(rd: int, value: int, shift: int) -> int:
    """MOVK Xd, #value, LSL #shift."""
    return 0xF280_0000 | shift // 16 << 21 | value << 5 | rd


def mov64(rd: int, value: int) -> tuple[int, ...]:
    """A 64-bit constant in a register."""
    return (movz(rd, value & 0xFFFF), *(movk(rd, value >> s & 0xFFFF, s) for s in (16, 32, 48) if value >> s & 0xFFFF))


def branch(words: int) -> int:
    """B to an instruction ``words`` away."""
    return 0x1400_0000 | words & 0x3FF_FFFF


def ldr32(rt: int, rn: int, offset: int = 0) -> int:
    """LDR Wt, [Xn, #offset]."""
    return 0xB940_0000 | offset // 4 << 10 | rn << 5 | rt


def str32(rt: int, rn: int, offset: int = 0) -> int:
    """STR Wt, [Xn, #offset]."""
    return 0xB900_0000 | offset // 4 << 10 | rn << 5 | rt


POWER_OFF = (*mov64(0, 0x8400_0008), SMC)
RESET = (*mov64(0, 0x8400_0009), SMC)
UART2 = 0x1C0B_0000


def printing(text: str) -> tuple[int, ...]:
    """Code that prints on UART2 with X1 and X2."""
    words = list(mov64(1, UART2))
    for character in text.encode():
        words += [movz(2, character), str32(2, 1)]
    return tuple(words)


def flat(words: Sequence[int], address: int = CODE, name: str = "test image") -> PlacedImage:
    """A flat image of instruction words."""
    return place(struct.pack(f"<{len(words)}I", *words), name, address)


def prebuilt(name: str) -> PlacedImage:
    """A test payload."""
    path = PAYLOADS / name / f"{name}.elf"
    return place(path.read_bytes(), name, None)


def parameters(*words: int) -> PlacedImage:
    """Parameters of the stress payload."""
    return place(struct.pack(f"<{len(words)}Q", *words), "parameters", PARAMETERS)


def run(*images: PlacedImage, limits: Limits | None = None, **configuration: Any) -> Result:
    """Boot images and run them to their end."""
    machine = BareMetal(Configuration(images, **configuration))
    return machine.run(Limits(max_ticks=TICKS) if limits is None else limits)
