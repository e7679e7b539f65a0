"""One Unicorn engine: a cache of one context's state that can be rebuilt at any slice boundary.

Only public interfaces are used. The translation of addresses is ours (virtual TLB mode): the fill hook asks for it.
"""

from collections.abc import Callable
from typing import Final

from unicorn import UC_ARCH_ARM64, UC_MODE_ARM, UC_PROT_ALL, Uc
from unicorn.arm64_const import (
    UC_ARM64_INS_MRS,
    UC_ARM64_INS_MSR,
    UC_ARM64_INS_SYS,
    UC_ARM64_REG_FPCR,
    UC_ARM64_REG_FPSR,
    UC_ARM64_REG_Q0,
    UC_CPU_ARM64_MAX,
)
from unicorn.unicorn_const import UC_CTL_IO_WRITE, UC_CTL_TLB_FLUSH, UC_TLB_VIRTUAL

from realmkit.arch.sysregs import Encoding
from realmkit.machine.context import CpuContext
from realmkit.machine.core import scan
from realmkit.machine.core.blocks import Blocks
from realmkit.machine.core.native import (
    CODE,
    INSTRUCTION,
    PC,
    PSTATE,
    SP,
    Batch,
    CpRegister,
    EncodingBytes,
    Register,
    RegisterFile,
    Runner,
    SystemRegisters,
    TlbEntry,
    X,
)
from realmkit.machine.core.registers import PAN, RESIDENT, RESIDENT_EL2
from realmkit.machine.core.tlb import TranslationCache
from realmkit.machine.insn import SystemAccess
from realmkit.machine.memory import PhysicalMemory

WINDOW: Final = 64 << 20
"""RAM is mapped into an engine in pieces of this size, on first use."""
HOOKS: Final = 20_000
"""Places that are hooked one by one; code with more of them has every system instruction hooked, which is slow."""
_BASE: Final = 1 << 52
"""Where an engine has physical memory. What walks tables natively would go past stage 2 and the granule protection
check: out there it finds none, because no address in a register or a descriptor reaches so far."""
_SCR_EL3: Final = (3, 6, 1, 1, 0)
_HCR_EL2: Final = (3, 4, 1, 1, 0)
_SCR_VALUE: Final = 1 << 12 | 1 << 10 | 1 << 8 | 1
"""TWI, RW, HCE, NS: WFI at EL2 comes to us, SMC and HVC work."""
_MDCR_EL3: Final = (3, 6, 1, 3, 1)
_MDCR_VALUE: Final = 1 << 6
"""TPM: the performance monitors, which our PEs do not have and which count the time of the outside, come to us."""
_TRAPS: Final = 1 << 31 | 1 << 18 | 1 << 13
"""HCR_EL2 of every engine: EL1 is AArch64; identification registers and WFI at EL1 come to us."""
_SPAN: Final = 1 << 23
_PAGE: Final = 4096
_CONTROLS: Final = ("SCTLR_EL1", "TCR_EL1", "TTBR0_EL1", "TTBR1_EL1", "MAIR_EL1")
_CONTROLS_EL2: Final = ("SCTLR_EL2", "TCR_EL2", "TTBR0_EL2", "MAIR_EL2", "VTTBR_EL2", "VTCR_EL2")
_ENTRY: Final = ("SP_EL1", "VBAR_EL1", "SCTLR_EL1")
_NUMBERS: Final = {register: number for number, register in enumerate(X)}

Fill = Callable[[int, int], "tuple[int, int] | None"]


class Engine:
    """An engine and what it currently holds.

    ``fill(vaddr, access) -> (pa, permissions) | None`` translates; ``interrupt(number)`` serves an exception: True to
    go on, False to stop; ``instruction(access, value)`` serves an MRS, MSR or SYS, where ``value`` is what Xt holds:
    True when it has been done. ``wait(address)``: there is, or was, a WFE, which is about to execute while WFE is
    trapped: True to stop before it.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        fill: Fill,
        interrupt: Callable[[int], bool],
        instruction: Callable[[SystemAccess, int], bool],
        wait: Callable[[int], bool],
    ) -> None:
        self._memory = memory
        self._fill = fill
        self._interrupt = interrupt
        self._instruction = instruction
        self._wait = wait
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM, UC_CPU_ARM64_MAX)
        self.uc.ctl_set_page_size(_PAGE)
        self.uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        self.uc.ctl_exits_enabled(True)
        self._runner = Runner(self.uc)
        self.blocks = Blocks(self.uc)
        self._runner.hook_fill(self._on_fill)
        self._runner.hook_interrupts(self._on_interrupt)
        self._instruction_callback = INSTRUCTION(self._on_instruction)
        self._code_callback = CODE(self._on_code)
        self._entries: dict[int, TlbEntry] = {}
        self._accesses: dict[tuple[bytes, int, bool], SystemAccess] = {}
        self.registers = RegisterFile(self.uc)
        system = SystemRegisters(self.uc)
        self.read_place, self.write_place = system.read, system.write
        """A system register by encoding."""
        self.sp_register = Register(self.uc, SP)
        self.pstate = Register(self.uc, PSTATE)
        self._controls = Batch(self.uc, (PC, PSTATE, *(RESIDENT[name] for name in _CONTROLS)))
        el2 = (RESIDENT_EL2[name] for name in _CONTROLS_EL2)
        self._controls_el2 = Batch(self.uc, (PC, PSTATE, *(RESIDENT[name] for name in _CONTROLS), *el2))
        self.control_batch = self._controls
        """PC, PSTATE and the translation controls: of EL1, and for an image those of EL2 after them."""
        self.x = tuple(Register(self.uc, number) for number in X)
        self._entry_reads = Batch(self.uc, (SP, *(RESIDENT[name] for name in _ENTRY)))
        state = (RESIDENT["ELR_EL1"], RESIDENT["SPSR_EL1"], PC)
        # PSTATE comes before system registers: Unicorn derives its translation flags when one of those is written.
        self._enter_same = Batch(self.uc, (PSTATE, *state))
        self._enter_switching = Batch(self.uc, (PSTATE, RESIDENT["SP_EL0"], SP, *state))
        self._esr = Batch(self.uc, (RESIDENT["ESR_EL1"],))
        self._far = Batch(self.uc, (RESIDENT["FAR_EL1"],))
        self.ctx: CpuContext | None = None
        self.image = False
        """The context may run at EL2."""
        self._places: dict[str, Encoding] = RESIDENT
        self.tlb = TranslationCache()
        self.pages: set[int] = set()
        """Physical granules that cached translations point to."""
        self.code: dict[int, set[int]] = {}
        """Physical granules that translated code comes from, and the pages where it is mapped."""
        self.changed: set[int] = set()
        """Those of them whose contents have changed since."""
        self.fatal: set[int] = set()
        """Where code holds instructions that Unicorn must not see."""
        self.fatal_next = -1
        """The one of them that is next if what is before it has been done elsewhere."""
        self.exits_due = False
        """Unicorn must learn of new ones before it runs on; while it looks for a page it may be going through them."""
        self.stale = False
        """Unicorn's own TLB must be emptied before it runs again."""
        self.stopped = False
        """The last run ended at an interrupt hook's wish, not because what was granted had been used up."""
        self._windows: set[int] = set()
        self._hooked: set[tuple[int, int]] = set()
        self._everywhere = False
        self._waits_watched = False
        self._waits: list[int] = []
        self.failure: BaseException | None = None
        self.missing_window: int | None = None
        self.write_place(_SCR_EL3, _SCR_VALUE)
        self.write_place(_MDCR_EL3, _MDCR_VALUE)
        self.write_place(_HCR_EL2, _TRAPS)
        self._as_new = self.uc.context_save()

    # ---- registers ----

    def read_register(self, name: str) -> int:
        """Current value of a register that the engine holds."""
        if name.startswith("SP_EL") and name == stack_name(self.pstate.read()):
            return self.sp_register.read()
        return self.read_place(self._places[name])

    def write_register(self, name: str, value: int) -> None:
        """Change a register that the engine holds."""
        if name.startswith("SP_EL") and name == stack_name(self.pstate.read()):
            self.sp_register.write(value)
        else:
            self.write_place(self._places[name], value)

    def sp(self) -> int:
        """The current stack pointer."""
        return self.sp_register.read()

    def switch_stack(self, before: int, after: int) -> None:
        """Exchange the stack pointer bank for a change of PSTATE, which Unicorn leaves to us."""
        old, new = stack_name(before), stack_name(after)
        if old != new:
            self.write_place(self._places[old], self.sp_register.read())
            self.sp_register.write(self.read_place(self._places[new]))

    def enter_el1(
        self, pc: int, pstate: int, kept: int, offsets: tuple[int, int, int], esr: int | None, far: int | None
    ) -> tuple[int, int]:
        """Exception entry to EL1h, all at once: gives the new PC and PSTATE.

        ``pc`` and ``pstate`` are the state to return to, ``kept`` is the new PSTATE where SCTLR_EL1.SPAN keeps PAN.
        ``offsets`` in the vectors: from EL0, from EL1 with SP_EL0, from EL1 with SP_EL1.
        """
        sp, stack, vectors, sctlr = self._entry_reads.read()
        if not sctlr & _SPAN:
            kept |= PAN
        if esr is not None:
            self._esr.write(esr)
        if far is not None:
            self._far.write(far)
        vectors &= ~0x7FF
        if pstate & 1:
            entry = vectors + offsets[2]
            self._enter_same.write(kept, pc, pstate, entry)
        else:
            entry = vectors + offsets[1 if pstate & 0xC else 0]
            self._enter_switching.write(kept, sp, stack, pc, pstate, entry)
        return entry, kept

    # ---- contexts ----

    def load(self, ctx: CpuContext, image: bool) -> None:
        """Take over a context's state; ``image``: it may run at EL2."""
        self.ctx, self.image = ctx, image
        self._places = RESIDENT | RESIDENT_EL2 if image else RESIDENT
        self.control_batch = self._controls_el2 if image else self._controls
        self.registers.store(ctx.x, ctx.pc, ctx.pstate)
        self._all().write(*(ctx.regs.get(name, 0) for name in self._places))
        self.sp_register.write(ctx.regs.get(stack_name(ctx.pstate), 0))
        for n, value in enumerate(ctx.v):
            self.uc.reg_write(UC_ARM64_REG_Q0 + n, value)
        self.uc.reg_write(UC_ARM64_REG_FPCR, ctx.fpcr)
        self.uc.reg_write(UC_ARM64_REG_FPSR, ctx.fpsr)
        self.write_place(_HCR_EL2, _TRAPS)
        ctx.backing, ctx.held = self, self._places

    def unload(self) -> None:
        """Give the state back and forget everything: the engine is as new."""
        ctx = self.ctx
        if ctx is None:
            return
        ctx.regs.update(zip(self._places, self._all().read(), strict=True))
        ctx.regs[stack_name(self.pstate.read())] = self.sp_register.read()
        ctx.v = [self.uc.reg_read(UC_ARM64_REG_Q0 + n) for n in range(32)]
        ctx.fpcr = self.uc.reg_read(UC_ARM64_REG_FPCR)
        ctx.fpsr = self.uc.reg_read(UC_ARM64_REG_FPSR)
        ctx.backing, ctx.held = None, ()
        self.ctx = None
        # Registers that no context saves must not reach the next one either.
        self.uc.context_restore(self._as_new)
        self.drop_code()

    def _all(self) -> Batch:
        return Batch(self.uc, tuple(self._places.values()))

    def refresh(self) -> None:
        """Let Unicorn notice a PSTATE that was written behind its back."""
        self.write_place(_HCR_EL2, _TRAPS)

    # ---- caches ----

    def flush(self) -> None:
        """Forget translations."""
        self.tlb.clear()
        self.pages.clear()
        self.flush_native()

    def flush_native(self) -> None:
        """Empty Unicorn's own TLB."""
        self.stale = False
        self.uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)

    def drop_code(self) -> None:
        """Drop all translated code; pages are looked at again when they execute next."""
        self.code.clear()
        self.changed.clear()
        self.uc.ctl_flush_tb()
        self.flush()

    def renew_code(self, leads_to: Callable[[int], int | None]) -> bool:
        """Drop code whose granule has changed. ``leads_to(page)`` is the granule that a page executes from now.

        False when some of it could not be found: :meth:`drop_code` has to follow, between runs. Unicorn removes code by
        virtual address, and a page may not be mapped at present.
        """
        changed, self.changed = self.changed, set()
        complete = True
        for granule in changed:
            for page in self.code.get(granule, ()):
                if leads_to(page) == granule:
                    self._hook(page << 12, granule << 12)
                    if self.exits_due:
                        self._set_exits()
                    self.uc.ctl_remove_cache(page << 12, (page << 12) + _PAGE - 4)
                else:
                    complete = False
        return complete

    # ---- hooks ----

    def run(self, pc: int) -> bool:
        """Execute what has been granted to ``blocks``: False when a fault ended the run early."""
        self.stopped = False
        if self.exits_due:
            self._set_exits()
        done = self._runner.start(pc)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return done

    def _on_fill(self, handle: int, vaddr: int, access: int, entry: int, data: int) -> bool:
        try:
            found = self._fill(vaddr, access)
            if found is None:
                return False
            slot = self._entries.get(entry)
            if slot is None:
                slot = self._entries[entry] = TlbEntry.from_address(entry)
            slot.paddr, slot.perms = found[0] + _BASE, found[1]
            return True
        except BaseException as failure:
            self.failure = failure
            return False

    def _on_interrupt(self, handle: int, number: int, data: int) -> None:
        try:
            if not self._interrupt(number):
                self.stopped = True
                self._runner.stop()
        except BaseException as failure:
            self.failure = failure
            self._runner.stop()

    def _on_instruction(self, handle: int, register: int, place: int, kind: int) -> int:
        try:
            key = (EncodingBytes.from_address(place).raw, register, kind == UC_ARM64_INS_MRS)
            access = self._accesses.get(key)
            if access is None:
                cp = CpRegister.from_address(place)
                encoding = (cp.op0, cp.op1, cp.crn, cp.crm, cp.op2)
                access = self._accesses[key] = SystemAccess(key[2], encoding, _NUMBERS.get(register, 31))
            return self._instruction(access, 0 if access.rt == 31 else CpRegister.from_address(place).val)
        except BaseException as failure:
            self.failure = failure
            return True

    def _on_code(self, handle: int, address: int, size: int, data: int) -> None:
        try:
            if self._wait(address):
                self._runner.stop()
        except BaseException as failure:
            self.failure = failure

    def is_mapped(self, pa: int) -> bool:
        """Whether the engine can reach the RAM at ``pa``; if not, its window is to be mapped before the next run."""
        if pa // WINDOW in self._windows:
            return True
        self.missing_window = pa
        return False

    def map_window(self, pa: int) -> None:
        """Make the RAM around ``pa`` reachable; between runs only."""
        self.missing_window = None
        region = self._memory.region_at(pa)
        if region is None:
            return
        base = max(pa // WINDOW * WINDOW, region.base)
        end = min(pa // WINDOW * WINDOW + WINDOW, region.end)
        self.uc.mem_map_ptr(_BASE + base, end - base, UC_PROT_ALL, region.host_address + base - region.base)
        self._windows.add(pa // WINDOW)

    def executes(self, vaddr: int, pa: int) -> bool:
        """A page is about to execute: hook what must come to us. Whether its granule was not known to hold code."""
        page, granule = vaddr >> 12, pa >> 12
        pages = self.code.get(granule)
        new = pages is None
        if pages is None:
            pages = self.code[granule] = set()
        if page not in pages:
            pages.add(page)
            self._hook(vaddr & ~0xFFF, pa)
        return new

    def forget_fatal(self, address: int) -> None:
        """Something else is there now."""
        self.fatal.discard(address)
        self._set_exits()

    def _set_exits(self) -> None:
        self.exits_due = False
        self.uc.ctl_set_exits(sorted(self.fatal))

    def watch_waits(self, on: bool) -> None:
        """Stop at WFE, or not; between runs only. One such hook alone makes all code several times slower."""
        if on == self._waits_watched:
            return
        self._waits_watched = on
        if on:
            addresses = [address for address, kind in self._hooked if kind == scan.WAIT]
            self._waits = [self._runner.hook_address(self._code_callback, address) for address in sorted(addresses)]
        else:
            for hook in self._waits:
                self._runner.unhook(hook)
            self._waits = []
        self.uc.ctl_flush_tb()

    def _hook(self, vaddr: int, pa: int) -> None:
        region = self._memory.region_at(pa)
        if region is None:
            return
        offset = pa - region.base
        for place, kind in scan.find(region.buffer[offset : offset + _PAGE], self.image):
            address = vaddr + place
            if kind == scan.FATAL:
                if address not in self.fatal:
                    self.fatal.add(address)
                    self.exits_due = True
                continue
            if (address, kind) in self._hooked:
                continue
            self._hooked.add((address, kind))
            if kind == scan.WAIT:
                if self._waits_watched:
                    self._waits.append(self._runner.hook_address(self._code_callback, address))
            elif len(self._hooked) < HOOKS:
                self._runner.hook_instruction(self._instruction_callback, kind, address, address)
            elif not self._everywhere:
                self._everywhere = True
                for every in (UC_ARM64_INS_MRS, UC_ARM64_INS_MSR, UC_ARM64_INS_SYS):
                    self._runner.hook_instruction(self._instruction_callback, every, 1, 0)


def stack_name(pstate: int) -> str:
    """The banked stack pointer that PSTATE selects."""
    return f"SP_EL{pstate >> 2 & 3}" if pstate & 1 else "SP_EL0"
