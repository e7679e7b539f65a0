"""A64 programs as lists of words: only the instructions that the tests of the Host need."""

from collections.abc import Callable
from enum import IntEnum
from typing import Self

from realmkit.arch.sysregs import ENCODINGS

XZR = 31


class Cond(IntEnum):
    """Conditions of B.cond."""

    EQ = 0
    NE = 1
    HS = 2
    LO = 3


_LOADS = {1: 0x39400000, 2: 0x79400000, 4: 0xB9400000, 8: 0xF9400000}


class Code:
    """A program in the making; every method adds instructions and returns the program."""

    def __init__(self) -> None:
        self._words: list[int | Callable[[], int]] = []
        self._labels: dict[str, int] = {}

    def bytes(self) -> bytes:
        """The program."""
        return b"".join((w if isinstance(w, int) else w()).to_bytes(4, "little") for w in self._words)

    def word(self, *words: int) -> Self:
        self._words += words
        return self

    def label(self, name: str) -> Self:
        assert name not in self._labels
        self._labels[name] = len(self._words)
        return self

    def org(self, offset: int) -> Self:
        """Go on at this byte offset."""
        count = offset // 4 - len(self._words)
        assert count >= 0
        return self.word(*[0xD503201F] * count)

    def _branch(self, base: int, label: str, shift: int, bits: int) -> Self:
        here = len(self._words)
        self._words.append(lambda: base | ((self._labels[label] - here) & (1 << bits) - 1) << shift)
        return self

    # ---- data processing ----

    def mov(self, rd: int, value: int) -> Self:
        """A 64-bit constant."""
        self.word(0xD2800000 | (value & 0xFFFF) << 5 | rd)
        for hw in range(1, 4):
            part = value >> 16 * hw & 0xFFFF
            if part:
                self.word(0xF2800000 | hw << 21 | part << 5 | rd)
        return self

    def copy(self, rd: int, rm: int) -> Self:
        return self.word(0xAA0003E0 | rm << 16 | rd)

    def add(self, rd: int, rn: int, value: int) -> Self:
        return self.word(0x91000000 | value << 10 | rn << 5 | rd)

    def sub(self, rd: int, rn: int, value: int) -> Self:
        return self.word(0xD1000000 | value << 10 | rn << 5 | rd)

    def add_reg(self, rd: int, rn: int, rm: int) -> Self:
        return self.word(0x8B000000 | rm << 16 | rn << 5 | rd)

    def cmp(self, rn: int, rm: int) -> Self:
        return self.word(0xEB00001F | rm << 16 | rn << 5)

    def adr(self, rd: int, label: str) -> Self:
        here = len(self._words)

        def make() -> int:
            offset = (self._labels[label] - here) * 4
            return 0x10000000 | (offset & 3) << 29 | (offset >> 2 & 0x7FFFF) << 5 | rd

        self._words.append(make)
        return self

    # ---- memory ----

    def load(self, rt: int, rn: int, offset: int = 0, size: int = 8) -> Self:
        return self.word(_LOADS[size] | offset // size << 10 | rn << 5 | rt)

    def store(self, rt: int, rn: int, offset: int = 0, size: int = 8) -> Self:
        return self.word(_LOADS[size] & ~0x400000 | offset // size << 10 | rn << 5 | rt)

    # ---- control ----

    def b(self, label: str) -> Self:
        return self._branch(0x14000000, label, 0, 26)

    def bl(self, label: str) -> Self:
        return self._branch(0x94000000, label, 0, 26)

    def cbz(self, rt: int, label: str) -> Self:
        return self._branch(0xB4000000 | rt, label, 5, 19)

    def cbnz(self, rt: int, label: str) -> Self:
        return self._branch(0xB5000000 | rt, label, 5, 19)

    def b_if(self, cond: Cond, label: str) -> Self:
        return self._branch(0x54000000 | cond, label, 5, 19)

    def ret(self) -> Self:
        return self.word(0xD65F03C0)

    def eret(self) -> Self:
        return self.word(0xD69F03E0)

    # ---- system ----

    def msr(self, name: str, rt: int) -> Self:
        return self.word(0xD5100000 | self._place(name) | rt)

    def mrs(self, rt: int, name: str) -> Self:
        return self.word(0xD5300000 | self._place(name) | rt)

    @staticmethod
    def _place(name: str) -> int:
        op0, op1, crn, crm, op2 = ENCODINGS[name]
        return (op0 & 1) << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5

    def isb(self) -> Self:
        return self.word(0xD5033FDF)

    def unmask_irq(self) -> Self:
        return self.word(0xD50342FF)

    def mask_irq(self) -> Self:
        return self.word(0xD50342DF)

    def wfi(self) -> Self:
        return self.word(0xD503207F)

    def smc(self) -> Self:
        return self.word(0xD4000003)

    def hvc(self) -> Self:
        return self.word(0xD4000002)

    def call(self, fid: int, *arguments: int) -> Self:
        """SMC with X0 = ``fid``, X1.. = ``arguments``."""
        for number, value in enumerate(arguments, 1):
            self.mov(number, value)
        return self.mov(0, fid).smc()
