"""Instruction words to what they do: the loads and stores group, and dispatch (Arm ARM C4.1.95)."""

from realmkit.machine.insn.loadstore import Extend, LoadStore, Operation, sign_extend
from realmkit.machine.insn.system import System, SystemAccess, decode_system

Instruction = LoadStore | System
_LOAD, _STORE, _ATOMIC = Operation.LOAD, Operation.STORE, Operation.ATOMIC
_ZERO_BLOCK = 6
"""log2 of the bytes of DC ZVA (DCZID_EL0.BS = 4)."""

_EXTENDS = {int(extend): extend for extend in Extend}
_POST_INDEX, _UNPRIVILEGED, _PRE_INDEX = 1, 2, 3
_STRUCTURE_REGISTERS = {0b0000: 4, 0b0010: 4, 0b0100: 3, 0b0110: 3, 0b0111: 1, 0b1000: 2, 0b1010: 2}
"""LD1-LD4 and ST1-ST4 (multiple structures): registers by opcode."""


def decode(word: int) -> Instruction | None:
    """Decode a 32-bit instruction word; None when it is nothing that this decoder knows."""
    if word & 0x0A00_0000 == 0x0800_0000:
        return _load_store(word)
    return decode_system(word)


def decode_access(word: int) -> LoadStore | None:
    """The access to memory that an instruction makes: as :func:`decode`, and DC and IC by virtual address too."""
    if word & 0x0A00_0000 == 0x0800_0000:
        return _load_store(word)
    instruction = decode_system(word)
    if isinstance(instruction, SystemAccess) and not instruction.read:
        return _by_address(instruction)
    return None


def _by_address(instruction: SystemAccess) -> LoadStore | None:
    """DC and IC operations whose Xt is a virtual address (op1 3, and DC IVAC): op2 1; set/way ones have op2 2."""
    op0, op1, crn, crm, op2 = instruction.encoding
    if (op0, crn, op2) != (1, 7, 1):
        return None
    if op1 == 3 and crm == 4:
        return LoadStore(Operation.ZERO, _ZERO_BLOCK, 31, instruction.rt)
    if (op1 == 3 and crm in (5, 10, 11, 12, 13, 14)) or (op1 == 0 and crm == 6):
        return LoadStore(Operation.MAINTENANCE, 0, 31, instruction.rt)
    return None


def _load_store(word: int) -> LoadStore | None:
    """Bits 29:28 and 26 select the class."""
    group, simd = word >> 28 & 3, bool(word >> 26 & 1)
    if group == 3:
        return _one_register(word, simd)
    if group == 2:
        return _pair(word, simd)
    if group == 1:
        return _literal(word, simd) if not word >> 24 & 1 else _rcpc_unscaled(word, simd)
    if simd:
        return _structures(word)
    return None if word >> 24 & 1 else _exclusive(word)


def _kind(word: int, simd: bool) -> tuple[Operation, int, bool, bool] | None:
    """(operation, size, signed, wide) from the size and opc fields; None when they are unallocated."""
    size, opc = word >> 30, word >> 22 & 3
    if simd:
        if opc & 2 and size:
            return None
        return (_LOAD if opc & 1 else _STORE), (4 if opc & 2 else size), False, True
    if opc < 2:
        return (_LOAD if opc else _STORE), size, False, size == 3
    if size == 3:
        return (Operation.PREFETCH, 3, False, True) if opc == 2 else None
    if size == 2 and opc == 3:
        return None
    return _LOAD, size, True, opc == 2


def _one_register(word: int, simd: bool) -> LoadStore | None:
    mode = word >> 10 & 3
    if not word >> 24 & 1 and word >> 21 & 1 and mode != 2:
        return _atomic(word) if mode == 0 and not simd else None
    kind = _kind(word, simd)
    if kind is None:
        return None
    operation, size, signed, wide = kind
    rt, rn = word & 31, word >> 5 & 31
    if word >> 24 & 1:
        offset = (word >> 10 & 0xFFF) << size
        return LoadStore(operation, size, rt, rn, offset, signed=signed, wide=wide, simd=simd)
    if word >> 21 & 1:
        extend = _EXTENDS.get(word >> 13 & 7)
        if extend is None:
            return None
        shift = size if word >> 12 & 1 else 0
        rm = word >> 16 & 31
        return LoadStore(operation, size, rt, rn, 0, rm, extend, shift, signed, wide, simd=simd)
    offset = sign_extend(word >> 12, 9)
    indexed = mode in (_POST_INDEX, _PRE_INDEX)
    if (mode and operation is Operation.PREFETCH) or (mode == _UNPRIVILEGED and simd):
        return None
    return LoadStore(
        operation,
        size,
        rt,
        rn,
        0 if mode == _POST_INDEX else offset,
        signed=signed,
        wide=wide,
        indexed=indexed,
        writeback=offset if indexed else 0,
        simd=simd,
        unprivileged=mode == _UNPRIVILEGED,
    )


def _atomic(word: int) -> LoadStore | None:
    """LSE atomics, SWP and LDAPR: size, A, R, Rs, o3, opc."""
    size, rt, rn = word >> 30, word & 31, word >> 5 & 31
    acquire, release, o3, opc = word >> 23 & 1, word >> 22 & 1, word >> 15 & 1, word >> 12 & 7
    if not o3 or opc == 0:
        return LoadStore(_ATOMIC, size, rt, rn, wide=size == 3, ordered=bool(acquire or release))
    if opc == 4 and acquire and not release:
        return LoadStore(_LOAD, size, rt, rn, wide=size == 3, ordered=True)
    return None


def _pair(word: int, simd: bool) -> LoadStore | None:
    opc, mode, load = word >> 30, word >> 23 & 3, word >> 22 & 1
    signed = opc == 1 and not simd
    if opc == 3 or (signed and (mode == 0 or not load)):
        return None
    size = 2 + opc if simd else 2 + (opc >> 1)
    offset = sign_extend(word >> 15, 7) << size
    indexed = mode in (_POST_INDEX, _PRE_INDEX)
    return LoadStore(
        _LOAD if load else _STORE,
        size,
        word & 31,
        word >> 5 & 31,
        0 if mode == _POST_INDEX else offset,
        signed=signed,
        wide=opc != 0,
        rt2=word >> 10 & 31,
        elements=2,
        indexed=indexed,
        writeback=offset if indexed else 0,
        simd=simd,
    )


def _literal(word: int, simd: bool) -> LoadStore | None:
    opc, offset = word >> 30, sign_extend(word >> 5, 19) << 2
    if simd:
        return None if opc == 3 else LoadStore(_LOAD, 2 + opc, word & 31, 31, offset, literal=True, simd=True)
    if opc == 3:
        return LoadStore(Operation.PREFETCH, 3, word & 31, 31, offset, literal=True)
    size = 3 if opc == 1 else 2
    return LoadStore(_LOAD, size, word & 31, 31, offset, signed=opc == 2, wide=opc != 0, literal=True)


def _rcpc_unscaled(word: int, simd: bool) -> LoadStore | None:
    """LDAPUR and STLUR."""
    kind = _kind(word, False)
    if simd or word >> 21 & 1 or word >> 10 & 3 or kind is None or kind[0] is Operation.PREFETCH:
        return None
    operation, size, signed, wide = kind
    offset = sign_extend(word >> 12, 9)
    return LoadStore(operation, size, word & 31, word >> 5 & 31, offset, signed=signed, wide=wide, ordered=True)


def _exclusive(word: int) -> LoadStore | None:
    """Exclusives, LDAR and STLR with their relatives, CAS and CASP: size, o2, L, o1, o0."""
    size, rt, rn = word >> 30, word & 31, word >> 5 & 31
    o2, load, o1, ordered = word >> 23 & 1, bool(word >> 22 & 1), word >> 21 & 1, bool(word >> 15 & 1)
    operation = _LOAD if load else _STORE
    rt2 = word >> 10 & 31
    if o1 and o2:
        if rt2 != 31:
            return None
        return LoadStore(_ATOMIC, size, rt, rn, wide=size == 3, ordered=ordered or load)
    if o2:
        # With o0 clear: LDLAR and STLLR, whose ordering is limited but acquire and release all the same.
        return LoadStore(operation, size, rt, rn, wide=size == 3, ordered=True)
    if not o1:
        return LoadStore(operation, size, rt, rn, wide=size == 3, exclusive=True, ordered=ordered)
    size = 2 + (size & 1)
    if not word >> 31:  # CASP
        if rt2 != 31:
            return None
        return LoadStore(_ATOMIC, size, rt, rn, wide=size == 3, rt2=rt | 1, elements=2, ordered=ordered or load)
    return LoadStore(operation, size, rt, rn, wide=size == 3, rt2=rt2, elements=2, exclusive=True, ordered=ordered)


def _structures(word: int) -> LoadStore | None:
    """LD1-LD4, ST1-ST4 and LD1R-LD4R of SIMD registers."""
    post = bool(word >> 23 & 1)
    if word >> 31 or (not post and word >> 16 & 31):
        return None
    if word >> 24 & 1:
        structure = _single_structure(word)
        if structure is None:
            return None
        size, elements = structure
    else:
        registers = _STRUCTURE_REGISTERS.get(word >> 12 & 15)
        if registers is None or word >> 21 & 1:
            return None
        size, elements = 3 + (word >> 30 & 1), registers
    rm = word >> 16 & 31
    return LoadStore(
        _LOAD if word >> 22 & 1 else _STORE,
        size,
        word & 31,
        word >> 5 & 31,
        elements=elements,
        indexed=post,
        writeback=elements << size if post and rm == 31 else 0,
        writeback_rm=rm if post and rm != 31 else None,
        simd=True,
    )


def _single_structure(word: int) -> tuple[int, int] | None:
    """(log2 of the element's bytes, elements) from opcode, S, R and size; None when unallocated."""
    scale, lane, size = word >> 14 & 3, word >> 12 & 1, word >> 10 & 3
    elements = ((word >> 13 & 1) << 1 | word >> 21 & 1) + 1
    if scale == 3:  # replicate to all lanes: loads only
        return None if lane or not word >> 22 & 1 else (size, elements)
    if scale == 2 and size == 1:
        return None if lane else (3, elements)
    if (scale == 1 and size & 1) or (scale == 2 and size):
        return None
    return scale, elements
