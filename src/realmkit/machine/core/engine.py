"""One Unicorn engine: a cache of one context's state that can be rebuilt at any slice boundary.

Only public interfaces are used. The translation of addresses is ours (virtual TLB mode): the fill hook asks for it.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from unicorn import (
    UC_ARCH_ARM64,
    UC_HOOK_CODE,
    UC_HOOK_INSN,
    UC_HOOK_INTR,
    UC_HOOK_TLB_FILL,
    UC_MODE_ARM,
    UC_PROT_ALL,
    Uc,
    UcError,
)
from unicorn.arm64_const import (
    UC_ARM64_INS_MRS,
    UC_ARM64_INS_MSR,
    UC_ARM64_INS_SYS,
    UC_ARM64_REG_CP_REG,
    UC_ARM64_REG_FPCR,
    UC_ARM64_REG_FPSR,
    UC_ARM64_REG_Q0,
    UC_ARM64_REG_SP,
    UC_ARM64_REG_X0,
    UC_ARM64_REG_X29,
    UC_ARM64_REG_XZR,
    UC_CPU_ARM64_MAX,
)
from unicorn.unicorn_const import UC_CTL_IO_WRITE, UC_CTL_TLB_FLUSH, UC_ERR_EXCEPTION, UC_TLB_VIRTUAL

from realmkit.machine.context import CpuContext
from realmkit.machine.core.native import RegisterFile
from realmkit.machine.core.registers import RESIDENT
from realmkit.machine.insn import SystemAccess
from realmkit.machine.memory import PhysicalMemory

WINDOW: Final = 64 << 20
"""RAM is mapped into an engine in pieces of this size, on first use."""
_BASE: Final = 1 << 52
"""Where an engine has physical memory. AT instructions walk tables natively, past stage 2 and the granule protection
check: out there they find none, because no address in a register or a descriptor reaches so far."""
_SCR_EL3: Final = (1, 1, 3, 6, 0)
_HCR_EL2: Final = (1, 1, 3, 4, 0)
_SCR_VALUE: Final = 1 << 10 | 1 << 8 | 1
"""RW, HCE, NS: SMC and HVC work."""
_TRAPS: Final = 1 << 31 | 1 << 25 | 1 << 24 | 1 << 18 | 1 << 13
"""HCR_EL2 of every engine: EL1 is AArch64; TLBI, IC, identification registers and WFI at EL1 come to us."""
_CANDIDATE: Final = re.compile(rb"[\x03\x08\x0b\x0c\x1b\x1c\x38\x3b\x3c]\xd5")
"""Upper half of the instructions that :func:`_hook_of` knows. No match can begin inside another one."""
_WFI: Final = 0xD503_207F
_WFE: Final = 0xD503_205F
_WAIT: Final = -1


def _cp(name: str) -> tuple[int, int, int, int, int]:
    op0, op1, crn, crm, op2 = RESIDENT[name]
    return crn, crm, op0, op1, op2


_PLACES: Final = {name: _cp(name) for name in RESIDENT}


class Engine:
    """An engine and what it currently holds.

    ``fill(vaddr, access) -> (pa, permissions) | None`` translates; ``interrupt(number)`` serves an exception: True to
    go on, False to stop; ``register(access)`` serves an MRS, MSR or SYS: True when it has been done. ``wait(address)``:
    there is, or was, a WFI, which is about to execute.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        fill: Callable[[int, int], tuple[int, int] | None],
        interrupt: Callable[[int], bool],
        register: Callable[[SystemAccess], bool],
        wait: Callable[[int], bool],
    ) -> None:
        self._memory = memory
        self._fill = fill
        self._interrupt = interrupt
        self._register = register
        self._wait = wait
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM, UC_CPU_ARM64_MAX)
        self.uc.ctl_set_page_size(4096)
        self.uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        self.uc.ctl_exits_enabled(True)
        self.uc.hook_add(UC_HOOK_TLB_FILL, self._on_fill)
        self.uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        self.registers = RegisterFile(self.uc)
        self.ctx: CpuContext | None = None
        self.pages: set[int] = set()
        """Physical granules that cached translations of this engine point to."""
        self.code: set[int] = set()
        """Physical granules that translated code comes from."""
        self._windows: set[int] = set()
        self._scanned: set[tuple[int, int]] = set()
        self._hooked: set[tuple[int, int]] = set()
        self.failure: BaseException | None = None
        self.missing_window: int | None = None
        self.write_place(_SCR_EL3, _SCR_VALUE)
        self.write_place(_HCR_EL2, _TRAPS)
        self._as_new = self.uc.context_save()

    # ---- registers ----

    def read_place(self, place: tuple[int, int, int, int, int]) -> int:
        """A system register by (CRn, CRm, op0, op1, op2)."""
        value: int = self.uc.reg_read(UC_ARM64_REG_CP_REG, place)
        return value

    def write_place(self, place: tuple[int, int, int, int, int], value: int) -> None:
        """Write a system register by (CRn, CRm, op0, op1, op2)."""
        self.uc.reg_write(UC_ARM64_REG_CP_REG, (*place, value))

    def holds(self, name: str) -> bool:
        """Whether the register lives here while a context is loaded (:class:`realmkit.machine.context.Backing`)."""
        return name in _PLACES

    def read_register(self, name: str) -> int:
        """Current value of a register that the engine holds."""
        if name.startswith("SP_EL") and name == self._stack_name():
            value: int = self.uc.reg_read(UC_ARM64_REG_SP)
            return value
        return self.read_place(_PLACES[name])

    def write_register(self, name: str, value: int) -> None:
        """Change a register that the engine holds."""
        if name.startswith("SP_EL") and name == self._stack_name():
            self.uc.reg_write(UC_ARM64_REG_SP, value)
        else:
            self.write_place(_PLACES[name], value)

    def _stack_name(self) -> str:
        return stack_name(self.registers.fetch()[32])

    def sp(self) -> int:
        """The current stack pointer."""
        value: int = self.uc.reg_read(UC_ARM64_REG_SP)
        return value

    def switch_stack(self, before: int, after: int) -> None:
        """Exchange the stack pointer bank for a change of PSTATE, which Unicorn leaves to us."""
        old, new = stack_name(before), stack_name(after)
        if old != new:
            self.write_place(_PLACES[old], self.sp())
            self.uc.reg_write(UC_ARM64_REG_SP, self.read_place(_PLACES[new]))

    # ---- contexts ----

    def load(self, ctx: CpuContext) -> None:
        """Take over a context's state."""
        self.ctx = ctx
        self.registers.store(ctx.x, ctx.pc, ctx.pstate)
        for name, place in _PLACES.items():
            self.write_place(place, ctx.regs.get(name, 0))
        name = stack_name(ctx.pstate)
        self.uc.reg_write(UC_ARM64_REG_SP, ctx.regs.get(name, 0))
        for n, value in enumerate(ctx.v):
            self.uc.reg_write(UC_ARM64_REG_Q0 + n, value)
        self.uc.reg_write(UC_ARM64_REG_FPCR, ctx.fpcr)
        self.uc.reg_write(UC_ARM64_REG_FPSR, ctx.fpsr)
        self.write_place(_HCR_EL2, _TRAPS)
        ctx.backing = self

    def unload(self) -> None:
        """Give the state back and forget everything: the engine is as new."""
        ctx = self.ctx
        if ctx is None:
            return
        for name in _PLACES:
            ctx.regs[name] = self.read_register(name)
        ctx.v = [self.uc.reg_read(UC_ARM64_REG_Q0 + n) for n in range(32)]
        ctx.fpcr = self.uc.reg_read(UC_ARM64_REG_FPCR)
        ctx.fpsr = self.uc.reg_read(UC_ARM64_REG_FPSR)
        ctx.backing = None
        self.ctx = None
        # Registers that no context saves must not reach the next one either.
        self.uc.context_restore(self._as_new)
        self.flush()
        self.uc.ctl_flush_tb()
        self.code.clear()
        self._scanned.clear()

    # ---- caches ----

    def flush(self) -> None:
        """Forget translations."""
        self.uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)
        self.pages.clear()

    def forget_code(self, granule: int) -> None:
        """Contents of a granule changed behind the engine's back: drop the code that was translated from it."""
        if granule in self.code:
            self.code.discard(granule)
            self.uc.ctl_flush_tb()
            self._scanned.clear()
            self.flush()

    def drop_code(self) -> None:
        """IC: drop all translated code."""
        self.code.clear()
        self._scanned.clear()
        self.uc.ctl_flush_tb()

    def refresh(self) -> None:
        """Let Unicorn notice a PSTATE that was written behind its back."""
        self.write_place(_HCR_EL2, _TRAPS)

    # ---- hooks ----

    def run(self, pc: int, count: int) -> bool:
        """Execute up to ``count`` instructions: False when a fault ended the run early."""
        try:
            self.uc.emu_start(pc, 0, count=count)
        except UcError as error:
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure from None
            if error.errno != UC_ERR_EXCEPTION:
                raise
            return False
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return True

    def _on_fill(self, uc: Uc, vaddr: int, access: int, entry: Any, data: object) -> bool:
        try:
            found = self._fill(vaddr, access)
            if found is None:
                return False
            pa, permissions = found
            if not self._is_mapped(pa):
                self.missing_window = pa
                return False
            entry.paddr = pa + _BASE
            entry.perms = permissions
            self.pages.add(pa >> 12)
            return True
        except BaseException as failure:
            self.failure = failure
            return False

    def _on_interrupt(self, uc: Uc, number: int, data: object) -> None:
        try:
            if not self._interrupt(number):
                uc.emu_stop()
        except BaseException as failure:
            self.failure = failure
            uc.emu_stop()

    def _on_register(self, uc: Uc, register: int, place: Any, read: bool) -> bool:
        try:
            encoding = (place.op0, place.op1, place.crn, place.crm, place.op2)
            return self._register(SystemAccess(read, encoding, _number(register)))
        except BaseException as failure:
            self.failure = failure
            return True

    def _on_wait(self, uc: Uc, address: int, size: int, data: object) -> None:
        try:
            if self._wait(address):
                uc.emu_stop()
        except BaseException as failure:
            self.failure = failure

    def _is_mapped(self, pa: int) -> bool:
        return pa // WINDOW in self._windows

    def map_window(self, pa: int) -> None:
        """Make the RAM around ``pa`` reachable; between runs only."""
        region = self._memory.region_at(pa)
        if region is None:
            return
        base = max(pa // WINDOW * WINDOW, region.base)
        end = min(pa // WINDOW * WINDOW + WINDOW, region.end)
        self.uc.mem_map_ptr(_BASE + base, end - base, UC_PROT_ALL, region.host_address + base - region.base)
        self._windows.add(pa // WINDOW)

    def scan(self, vaddr: int, pa: int, page: bytes, image: bool) -> None:
        """Hook the counter, timer and identification register accesses of a page that is about to execute."""
        key = (vaddr >> 12, pa >> 12)
        if key in self._scanned:
            return
        self._scanned.add(key)
        self.code.add(pa >> 12)
        for match in _CANDIDATE.finditer(page):
            offset = match.start() - 2
            if offset & 3:
                continue
            kind = _hook_of(int.from_bytes(page[offset : offset + 4], "little"), image)
            address = (vaddr & ~0xFFF) + offset
            if kind is None or (address, kind) in self._hooked:
                continue
            self._hooked.add((address, kind))
            if kind == _WAIT:
                self.uc.hook_add(UC_HOOK_CODE, self._on_wait, None, address, address)
            else:
                self.uc.hook_add(UC_HOOK_INSN, self._on_register, kind == UC_ARM64_INS_MRS, address, address, kind)


def _hook_of(word: int, image: bool) -> int | None:
    """How to hook an instruction: Unicorn's name of its kind, _WAIT for WFE and WFI, None for what needs no hook.

    Counters, timers, identification registers and WFE; for an ``image``, which runs at EL2 as well, also WFI, HCR_EL2,
    TLBI and IC.
    """
    if word == _WFE or (word == _WFI and image):
        return _WAIT
    upper, crn, crm = word >> 16, word >> 12 & 15, word >> 8 & 15
    kind: int = UC_ARM64_INS_MRS if word >> 21 & 1 else UC_ARM64_INS_MSR
    if upper in (0xD51B, 0xD53B):
        return kind if crn == 14 else None
    if upper in (0xD51C, 0xD53C):
        return kind if crn == 14 or (image and crn == 1 and crm == 1 and word >> 5 & 7 == 0) else None
    if upper == 0xD538:
        return kind if crn == 0 else None
    if image and (
        (upper in (0xD508, 0xD50C) and crn == 8) or (upper in (0xD508, 0xD50B) and crn == 7 and crm in (1, 5))
    ):
        instruction: int = UC_ARM64_INS_SYS
        return instruction
    return None


def _number(register: int) -> int:
    """Number of a general-purpose register by Unicorn's constant."""
    if register == UC_ARM64_REG_XZR:
        return 31
    return register - UC_ARM64_REG_X29 + 29 if register < UC_ARM64_REG_X0 else register - UC_ARM64_REG_X0


def stack_name(pstate: int) -> str:
    """The banked stack pointer that PSTATE selects."""
    return f"SP_EL{pstate >> 2 & 3}" if pstate & 1 else "SP_EL0"
