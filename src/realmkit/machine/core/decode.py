"""Decodes the load and store at a PC: exact address, syndrome, and what completing the access takes.

Unicorn's fill hook tells the page of an access only; everything else comes from the instruction (Arm ARM C4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from realmkit.arch.esr import ISS_DABT


@dataclass(frozen=True, slots=True)
class LoadStore:
    """One load or store. ``size`` is log2 of the bytes of one register; ``pair`` has two of them.

    ``address`` is base register plus ``offset`` (or the register offset); ``writeback`` is what the base register changes by.
    ``syndrome``: the architecture reports ISS details (ISV = 1).
    """

    write: bool
    size: int
    rt: int
    rn: int
    offset: int = 0
    rm: int | None = None
    extend: int = 3
    shift: int = 0
    signed: bool = False
    wide: bool = True
    rt2: int | None = None
    writeback: int = 0
    literal: bool = False
    simd: bool = False
    unprivileged: bool = False
    emulated: bool = True
    syndrome: bool = False
    acquire_release: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of one register's access."""
        return 1 << self.size

    def address(self, x: Sequence[int], sp: int, pc: int) -> int:
        """Effective address from X0-X30, SP and PC."""
        if self.literal:
            return pc + self.offset & _MASK
        base = sp if self.rn == 31 else x[self.rn]
        offset = self.offset
        if self.rm is not None:
            value = 0 if self.rm == 31 else x[self.rm]
            if self.extend == 2:  # UXTW
                value &= 0xFFFF_FFFF
            elif self.extend == 6:  # SXTW
                value = _sign(value, 32)
            offset = value << self.shift
        return base + offset & _MASK

    def iss(self) -> int:
        """ISV, SAS, SSE, SRT, SF and AR of a data abort; 0 where the architecture gives none."""
        if not self.syndrome:
            return 0
        return ISS_DABT.make(
            ISV=1, SAS=self.size, SSE=int(self.signed), SRT=self.rt, SF=int(self.wide), AR=int(self.acquire_release)
        )

    def loaded(self, value: int) -> int:
        """Register value of a load of ``value`` (zero-extended memory contents)."""
        if self.signed:
            value = _sign(value, 8 << self.size) & (_MASK if self.wide else 0xFFFF_FFFF)
        return value


_MASK = (1 << 64) - 1


def _sign(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def decode(word: int) -> LoadStore | None:
    """Decode an instruction word; None when it is no load or store that is known here."""
    if word & 0x0A00_0000 != 0x0800_0000:
        return _data_cache_zero(word)
    group = word >> 27 & 7
    simd = bool(word >> 26 & 1)
    if group == 7:
        return _single(word, simd)
    if group == 5:
        return _pair(word, simd)
    if group == 3:
        return _literal(word, simd)
    if group == 1 and not simd:
        return _exclusive(word)
    if group == 1:
        return LoadStore(not word >> 22 & 1, 3, 0, word >> 5 & 31, simd=True, emulated=False)
    return None


def _access(word: int, simd: bool) -> tuple[bool, int, bool, bool] | None:
    """(write, size, signed, wide) from size and opc; None for prefetches and what is unallocated."""
    size, opc = word >> 30, word >> 22 & 3
    if simd:
        size |= (opc & 2) << 1
        return not opc & 1, size, False, True
    if opc < 2:
        return not opc, size, False, size == 3
    if size == 3 or (size == 2 and opc == 3):
        return None
    return False, size, True, opc == 2


def _single(word: int, simd: bool) -> LoadStore | None:
    rt, rn = word & 31, word >> 5 & 31
    kind = _access(word, simd)
    if word >> 24 & 1:
        if kind is None:
            return None
        write, size, signed, wide = kind
        offset = (word >> 10 & 0xFFF) << size
        return LoadStore(
            write, size, rt, rn, offset, signed=signed, wide=wide, simd=simd, emulated=not simd, syndrome=not simd
        )
    mode = word >> 10 & 3
    if word >> 21 & 1:
        if mode == 0 and not simd:  # atomic memory operations, LDAPR
            ordered = bool(word >> 12 & 7 == 4 and word >> 15 & 1)
            return LoadStore(
                False,
                word >> 30,
                rt,
                rn,
                wide=word >> 30 == 3,
                emulated=ordered,
                syndrome=ordered,
                acquire_release=True,
            )
        if mode != 2 or kind is None:
            return None
        write, size, signed, wide = kind
        shift = size if word >> 12 & 1 else 0
        return LoadStore(
            write,
            size,
            rt,
            rn,
            rm=word >> 16 & 31,
            extend=word >> 13 & 7,
            shift=shift,
            signed=signed,
            wide=wide,
            simd=simd,
            emulated=not simd,
            syndrome=not simd,
        )
    if kind is None:
        return None
    write, size, signed, wide = kind
    imm = _sign(word >> 12, 9)
    post, indexed = mode == 1, mode in (1, 3)
    return LoadStore(
        write,
        size,
        rt,
        rn,
        0 if post else imm,
        signed=signed,
        wide=wide,
        writeback=imm if indexed else 0,
        simd=simd,
        unprivileged=mode == 2,
        emulated=not simd,
        syndrome=not simd and not indexed,
    )


def _pair(word: int, simd: bool) -> LoadStore | None:
    opc, mode = word >> 30, word >> 23 & 3
    size = 2 + opc if simd else (3 if opc & 2 else 2)
    imm = _sign(word >> 15, 7) << size
    return LoadStore(
        not word >> 22 & 1,
        size,
        word & 31,
        word >> 5 & 31,
        0 if mode == 1 else imm,
        signed=opc == 1 and not simd,
        rt2=word >> 10 & 31,
        writeback=imm if mode in (1, 3) else 0,
        simd=simd,
        emulated=not simd,
    )


def _literal(word: int, simd: bool) -> LoadStore | None:
    if word >> 24 & 3:
        return None
    opc = word >> 30
    if opc == 3 and not simd:
        return None
    size = 2 + opc if simd else (3 if opc == 1 else 2)
    return LoadStore(
        False,
        size,
        word & 31,
        31,
        _sign(word >> 5, 19) << 2,
        signed=opc == 2 and not simd,
        wide=opc != 0,
        literal=True,
        simd=simd,
        emulated=not simd,
        syndrome=not simd,
    )


def _exclusive(word: int) -> LoadStore:
    size, ordered = word >> 30, bool(word >> 23 & 1 and not word >> 21 & 1)
    return LoadStore(
        not word >> 22 & 1,
        size,
        word & 31,
        word >> 5 & 31,
        wide=size == 3,
        emulated=ordered,
        syndrome=ordered,
        acquire_release=bool(word >> 15 & 1),
    )


def _data_cache_zero(word: int) -> LoadStore | None:
    if word & 0xFFFF_FFE0 == 0xD50B_7420:  # DC ZVA
        return LoadStore(True, 6, 31, word & 31, emulated=False)
    if word & 0xFFF8_F000 == 0xD508_7000:  # cache maintenance by VA
        return LoadStore(False, 0, 31, word & 31, emulated=False)
    return None
