"""Unicorn through its C interface where the binding is slow: registers move in batches, hooks have no wrappers."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

from unicorn import UC_HOOK_CODE, UC_HOOK_INSN, UC_HOOK_INTR, UC_HOOK_TLB_FILL, Uc, UcError
from unicorn.arm64_const import (
    UC_ARM64_REG_CP_REG,
    UC_ARM64_REG_PC,
    UC_ARM64_REG_PSTATE,
    UC_ARM64_REG_SP,
    UC_ARM64_REG_X0,
    UC_ARM64_REG_X29,
)
from unicorn.unicorn_const import UC_ERR_EXCEPTION, UC_ERR_OK
from unicorn.unicorn_py3.unicorn import uclib

from realmkit.arch.sysregs import Encoding

PC: Final = UC_ARM64_REG_PC
PSTATE: Final = UC_ARM64_REG_PSTATE
SP: Final = UC_ARM64_REG_SP
X: Final = (*(UC_ARM64_REG_X0 + n for n in range(29)), UC_ARM64_REG_X29, UC_ARM64_REG_X29 + 1)
"""X0 to X30."""
_FILE: Final = (*X, PC, PSTATE, SP)

FILL: Final = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
)
"""(handle, virtual address, access, entry, data) to whether there is a translation."""
INTERRUPT: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
INSTRUCTION: Final = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t
)
"""(handle, general-purpose register, CpRegister, kind) to whether the instruction has been done."""
CODE: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_size_t)


class CpRegister(ctypes.Structure):
    """``uc_arm64_cp_reg``."""

    _fields_ = (
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("val", ctypes.c_uint64),
    )


_SLOT: Final = ctypes.sizeof(CpRegister)
EncodingBytes: Final = ctypes.c_char * 20
"""What of a CpRegister says which register it is."""

# Prototypes of our own: to convert arguments to the types that the binding declares takes longer than the call.
_UNTYPED: Final = ctypes.CFUNCTYPE(ctypes.c_int)
_READ: Final = _UNTYPED(("uc_reg_read", uclib))
_WRITE: Final = _UNTYPED(("uc_reg_write", uclib))
_READ_BATCH: Final = _UNTYPED(("uc_reg_read_batch", uclib))
_WRITE_BATCH: Final = _UNTYPED(("uc_reg_write_batch", uclib))


class TlbEntry(ctypes.Structure):
    """``uc_tlb_entry``."""

    _fields_ = (("paddr", ctypes.c_uint64), ("perms", ctypes.c_uint32))


class RegisterFile:
    """X0-X30, PC, PSTATE and SP of one engine, in preallocated arrays."""

    __slots__ = ("_handle", "_ids", "_pointers", "_read", "_values", "_write")

    def __init__(self, uc: Uc) -> None:
        count = len(_FILE)
        self._handle = uc._uch
        self._ids = (ctypes.c_int * count)(*_FILE)
        self._values: Any = (ctypes.c_uint64 * count)()
        base = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * count)(*(base + 8 * n for n in range(count)))
        self._read = _READ_BATCH
        self._write = _WRITE_BATCH

    def fetch(self) -> list[int]:
        """All values: X0-X30, PC, PSTATE, SP."""
        self._read(self._handle, self._ids, self._pointers, 34)
        values: list[int] = self._values[:]
        return values

    def store(self, x: list[int], pc: int, pstate: int) -> None:
        """Write X0-X30, PC and PSTATE."""
        self._values[:31] = x
        self._values[31] = pc
        self._values[32] = pstate
        self._write(self._handle, self._ids, self._pointers, 33)


class Batch:
    """A fixed set of registers of one engine that move in one call: numbers of Unicorn, and encodings."""

    __slots__ = ("_count", "_handle", "_ids", "_pointers", "_read", "_slots", "_view", "_write")

    def __init__(self, uc: Uc, registers: Sequence[int | Encoding]) -> None:
        self._handle = uc._uch
        self._count = len(registers)
        slots = (CpRegister * self._count)()
        size, offset = _SLOT, CpRegister.val.offset
        base = ctypes.addressof(slots)
        ids, pointers = [], []
        for n, register in enumerate(registers):
            place = base + n * size
            if isinstance(register, int):
                ids.append(register)
                pointers.append(place + offset)
            else:
                slots[n].op0, slots[n].op1, slots[n].crn, slots[n].crm, slots[n].op2 = register
                ids.append(UC_ARM64_REG_CP_REG)
                pointers.append(place)
        self._slots = list(slots)
        self._view = memoryview(slots).cast("B")
        self._ids = (ctypes.c_int * self._count)(*ids)
        self._pointers = (ctypes.c_void_p * self._count)(*pointers)
        self._read = _READ_BATCH
        self._write = _WRITE_BATCH

    def read(self) -> list[int]:
        """Values in order."""
        self._read(self._handle, self._ids, self._pointers, self._count)
        return [slot.val for slot in self._slots]

    def image(self, first: int) -> bytes:
        """Read the values; those from ``first`` on as one opaque string that is equal when all of them are."""
        self._read(self._handle, self._ids, self._pointers, self._count)
        return bytes(self._view[_SLOT * first :])

    def value(self, position: int) -> int:
        """One value of the last reading."""
        value: int = self._slots[position].val
        return value

    def held(self) -> list[int]:
        """Values of the last reading."""
        return [slot.val for slot in self._slots]

    def write(self, *values: int) -> None:
        """Write all of them, in order."""
        for slot, value in zip(self._slots, values, strict=True):
            slot.val = value
        self._write(self._handle, self._ids, self._pointers, self._count)


class Register:
    """One register of one engine."""

    __slots__ = ("_handle", "_number", "_pointer", "_value")

    def __init__(self, uc: Uc, number: int) -> None:
        self._handle = uc._uch
        self._number = number
        self._value = ctypes.c_uint64()
        self._pointer = ctypes.byref(self._value)

    def read(self) -> int:
        """Its value."""
        _READ(self._handle, self._number, self._pointer)
        return self._value.value

    def write(self, value: int) -> None:
        """Change it."""
        self._value.value = value
        _WRITE(self._handle, self._number, self._pointer)


class SystemRegisters:
    """The system registers of one engine, one at a time, by encoding."""

    __slots__ = ("_handle", "_pointer", "_slot")

    def __init__(self, uc: Uc) -> None:
        self._handle = uc._uch
        self._slot = CpRegister()
        self._pointer = ctypes.byref(self._slot)

    def read(self, place: Encoding) -> int:
        """Value of a register."""
        slot = self._slot
        slot.op0, slot.op1, slot.crn, slot.crm, slot.op2 = place
        status = _READ(self._handle, UC_ARM64_REG_CP_REG, self._pointer)
        if status != UC_ERR_OK:
            raise UcError(status)
        value: int = slot.val
        return value

    def write(self, place: Encoding, value: int) -> None:
        """Change a register."""
        slot = self._slot
        slot.op0, slot.op1, slot.crn, slot.crm, slot.op2 = place
        slot.val = value
        status = _WRITE(self._handle, UC_ARM64_REG_CP_REG, self._pointer)
        if status != UC_ERR_OK:
            raise UcError(status)


class Runner:
    """``uc_emu_start`` and the hooks of one engine; keeps the callbacks alive."""

    __slots__ = ("_callbacks", "_handle", "_start")

    def __init__(self, uc: Uc) -> None:
        self._handle = uc._uch
        self._start = uclib.uc_emu_start
        self._callbacks: list[Any] = []

    def start(self, pc: int) -> bool:
        """Execute until a hook stops it: False when an exception that no hook served ended it."""
        status: int = self._start(self._handle, pc, 0, 0, 0)
        if status == UC_ERR_OK:
            return True
        if status == UC_ERR_EXCEPTION:
            return False
        raise UcError(status)

    def stop(self) -> None:
        """End the run: only from an interrupt hook."""
        uclib.uc_emu_stop(self._handle)

    def hook_fill(self, function: Callable[[int, int, int, int, int], bool]) -> None:
        """Translate addresses."""
        self._add(UC_HOOK_TLB_FILL, FILL(function), None, 1, 0)

    def hook_interrupts(self, function: Callable[[int, int, int], None]) -> None:
        """Serve exceptions."""
        self._add(UC_HOOK_INTR, INTERRUPT(function), None, 1, 0)

    def hook_instruction(self, callback: Any, instruction: int, begin: int, end: int) -> None:
        """Call an INSTRUCTION callback for system instructions of a kind at addresses [begin, end]."""
        self._add(UC_HOOK_INSN, callback, instruction, begin, end, ctypes.c_int(instruction))

    def hook_address(self, callback: Any, address: int) -> int:
        """Call a CODE callback before whatever instruction is at ``address``; gives what :meth:`unhook` takes."""
        return self._add(UC_HOOK_CODE, callback, None, address, address)

    def unhook(self, hook: int) -> None:
        """Remove a hook."""
        uclib.uc_hook_del(self._handle, hook)

    def _add(self, kind: int, callback: Any, data: int | None, begin: int, end: int, *extra: Any) -> int:
        self._callbacks.append(callback)
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._handle,
            ctypes.byref(handle),
            kind,
            callback,
            ctypes.c_void_p(data),
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *extra,
        )
        if status != UC_ERR_OK:
            raise UcError(status)
        return handle.value
