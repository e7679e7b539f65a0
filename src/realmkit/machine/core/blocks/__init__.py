"""How many instructions an engine executes, and where it stops: a look before every block of translated code.

Unicorn's own limit (``count=``) costs a call for each instruction. A block hook costs one for each block, as long as
what it calls is native: a few instructions of machine code (sources in the directories beside this file), which share
their state with :class:`Blocks`. On machines for which there is none Python does the same: slowly, with equal results.

Unicorn looks for a wish to stop right after its block hook, before it executes anything of the block, so that it
stops precisely; code that unmasks interrupts or changes the exception level always ends a block.
"""

import ctypes
import mmap
import platform
import sys
from functools import cache
from importlib.resources import files
from typing import Any, Final

from unicorn import UC_HOOK_BLOCK, Uc, UcError
from unicorn.arm64_const import UC_ARM64_REG_PSTATE
from unicorn.unicorn_const import UC_ERR_OK
from unicorn.unicorn_py3.unicorn import uclib

_LEFT, _ADDRESS, _SIZE, _STOP, _MASK, _EXPECTED, _READ, _REGISTER, _PSTATE = range(9)
"""Slots of the state, 8 bytes each; the machine code knows them too."""
_SLOTS: Final = 9
_MACHINES: Final = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
"""(engine, address, size, state): what Unicorn calls before a block."""


class Blocks:
    """The allowance of one engine, in instructions."""

    __slots__ = ("_callback", "_granted", "_handle", "_state")

    def __init__(self, uc: Uc) -> None:
        self._handle = uc._uch
        self._state: Any = (ctypes.c_int64 * _SLOTS)()
        self._state[_STOP] = _address_of(uclib.uc_emu_stop)
        self._state[_READ] = _address_of(uclib.uc_reg_read)
        self._state[_REGISTER] = UC_ARM64_REG_PSTATE
        self._granted = 0
        native = _native()
        self._callback: Any = _CALLBACK(self._watch) if native is None else ctypes.c_void_p(native)
        hook = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._handle,
            ctypes.byref(hook),
            UC_HOOK_BLOCK,
            self._callback,
            ctypes.c_void_p(ctypes.addressof(self._state)),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if status != UC_ERR_OK:
            raise UcError(status)

    def grant(self, instructions: int, mask: int, pstate: int) -> None:
        """Allow so many instructions from now; the last block is executed whole.

        The engine stops earlier when a bit of PSTATE that ``mask`` has is no longer as in ``pstate``.
        """
        state = self._state
        self._granted = state[_LEFT] = 4 * instructions
        state[_MASK] = mask
        state[_EXPECTED] = mask & pstate

    def limit(self, instructions: int) -> None:
        """Allow no more than that from now on; with 0 the engine stops before the next block."""
        state = self._state
        surplus = state[_LEFT] - 4 * max(instructions, 0)
        if surplus > 0:
            self._granted -= surplus
            state[_LEFT] -= surplus

    def executed(self, pc: int | None) -> int:
        """Instructions since the last question; ``pc``: where the present block was left, if it was."""
        state = self._state
        if pc is not None:
            size = state[_SIZE]
            rest = (state[_ADDRESS] & (1 << 64) - 1) + size - pc
            if 0 < rest <= size:
                self._granted -= rest
        state[_SIZE] = 0
        left = state[_LEFT]
        used: int = self._granted - left
        self._granted = left
        return used >> 2

    def executed_before(self) -> int:
        """Instructions since the last question up to the beginning of the present block, from inside it."""
        state = self._state
        left = state[_LEFT] + state[_SIZE]
        used: int = self._granted - left
        if used <= 0:
            return 0
        self._granted = left
        return used >> 2

    def _watch(self, _handle: int, address: int, size: int, _data: int) -> None:
        """What the machine code does."""
        state = self._state
        if state[_LEFT] > 0 and (not state[_MASK] or self._is_as_expected()):
            state[_LEFT] -= size
            state[_ADDRESS], state[_SIZE] = address, size
        else:
            uclib.uc_emu_stop(self._handle)

    def _is_as_expected(self) -> bool:
        pstate = ctypes.c_uint64()
        uclib.uc_reg_read(self._handle, UC_ARM64_REG_PSTATE, ctypes.byref(pstate))
        expected: bool = pstate.value & self._state[_MASK] == self._state[_EXPECTED]
        return expected


def is_native() -> bool:
    """Whether this machine runs the look before every block as machine code of its own."""
    return _native() is not None


def _address_of(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    return 0 if address is None else address


@cache
def _native() -> int | None:
    """Address of the machine code, which is executable and not writable; None where there is none."""
    name = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or name is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    code = (files(__name__) / f"{name}.bin").read_bytes()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = mmap.PAGESIZE
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address: int | None = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, private, -1, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        return None
    ctypes.memmove(address, code, len(code))
    if libc.mprotect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        return None
    return address
