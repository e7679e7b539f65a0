"""Unicorn through its C interface where the binding is slow: register files move in one call each way."""

import ctypes
from collections.abc import Sequence
from typing import Final

from unicorn import Uc
from unicorn.arm64_const import (
    UC_ARM64_REG_CP_REG,
    UC_ARM64_REG_PC,
    UC_ARM64_REG_PSTATE,
    UC_ARM64_REG_X0,
    UC_ARM64_REG_X29,
)
from unicorn.unicorn_py3.unicorn import uclib

_COUNT: Final = 33


class RegisterFile:
    """X0-X30, PC and PSTATE of one engine, in preallocated arrays."""

    __slots__ = ("_handle", "_ids", "_pointers", "_read", "_values", "_write")

    def __init__(self, uc: Uc) -> None:
        self._handle = uc._uch
        ids = [UC_ARM64_REG_X0 + n for n in range(29)] + [UC_ARM64_REG_X29, UC_ARM64_REG_X29 + 1]
        self._ids = (ctypes.c_int * _COUNT)(*ids, UC_ARM64_REG_PC, UC_ARM64_REG_PSTATE)
        self._values = (ctypes.c_uint64 * _COUNT)()
        base = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * _COUNT)(*(base + 8 * n for n in range(_COUNT)))
        self._read = uclib.uc_reg_read_batch
        self._write = uclib.uc_reg_write_batch

    def fetch(self) -> list[int]:
        """All 33 values: X0-X30, PC, PSTATE."""
        self._read(self._handle, self._ids, self._pointers, _COUNT)
        return self._values[:]

    def store(self, x: list[int], pc: int, pstate: int) -> None:
        """Write all 33 values (PC last but one: it ends the current block when called from a hook)."""
        self._values[:31] = x
        self._values[31] = pc
        self._values[32] = pstate
        self._write(self._handle, self._ids, self._pointers, _COUNT)


class _CpReg(ctypes.Structure):
    _fields_ = (
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("val", ctypes.c_uint64),
    )


class Snapshot:
    """PSTATE and a fixed set of system registers of one engine, read in one call."""

    __slots__ = ("_count", "_handle", "_ids", "_pointers", "_pstate", "_registers")

    def __init__(self, uc: Uc, encodings: Sequence[tuple[int, int, int, int, int]]) -> None:
        self._handle = uc._uch
        self._count = len(encodings) + 1
        self._registers = (_CpReg * len(encodings))()
        for slot, (op0, op1, crn, crm, op2) in zip(self._registers, encodings, strict=True):
            slot.crn, slot.crm, slot.op0, slot.op1, slot.op2 = crn, crm, op0, op1, op2
        self._pstate = ctypes.c_uint64()
        self._ids = (ctypes.c_int * self._count)(UC_ARM64_REG_PSTATE, *[UC_ARM64_REG_CP_REG] * len(encodings))
        size = ctypes.sizeof(_CpReg)
        base = ctypes.addressof(self._registers)
        self._pointers = (ctypes.c_void_p * self._count)(
            ctypes.addressof(self._pstate), *(base + size * n for n in range(len(encodings)))
        )

    def fetch(self) -> tuple[int, list[int]]:
        """PSTATE, and the registers in order."""
        uclib.uc_reg_read_batch(self._handle, self._ids, self._pointers, self._count)
        return self._pstate.value, [slot.val for slot in self._registers]
