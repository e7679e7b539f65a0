"""Translation for running code: fills of the engine's TLB, and the instruction words that syndromes need."""

from typing import Final

from unicorn import UC_MEM_FETCH, UC_MEM_WRITE, UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE

from realmkit.arch.pas import SecurityState
from realmkit.machine.context import CpuContext
from realmkit.machine.core.engines import Engines
from realmkit.machine.core.registers import HCR_TGE, PAN
from realmkit.machine.core.services import CpuServices
from realmkit.machine.core.tlb import PAGE_MASK, Space, Translation
from realmkit.machine.port import ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import Access, Controls, Fault, Kind, Mapping

_EL: Final = 0xC
_EL1: Final = 0x4
_SPACE: Final = _EL | PAN
"""PSTATE bits that decide translations."""
_UNPRIVILEGED_MASK: Final = 0x3F20_0C00
_UNPRIVILEGED: Final = 0x3800_0800
"""LDTR and STTR."""


_DATA: Final = UC_PROT_READ | UC_PROT_WRITE
"""Permissions of the engine have the bits of rights: bit n for kind n of an access."""


class Fills(Engines):
    """What addresses mean to the context that runs."""

    def __init__(self, services: CpuServices) -> None:
        super().__init__()
        self.services = services
        self.ctx = CpuContext()
        """The context of the present run."""
        self.state = SecurityState.NS
        self.python_el2 = False
        """EL2 of the context is Python software."""
        self._failed: tuple[int, Kind, Fault | Mapping] | None = None
        """Page, kind and outcome of the last fill that could not be served."""
        self._code: dict[int, memoryview[int]] = {}
        """Instruction words of granules."""

    def controls(self) -> tuple[int, Controls]:
        """PSTATE and the translation controls at this very moment."""
        batch = self.engine.control_batch
        values = batch.read()
        return values[1], self._controls(values[1] >> 2 & 3, values)

    def controls_of(self, el: int) -> Controls:
        """The translation controls of EL1 or EL2 at this very moment."""
        return self._controls(el, self.engine.control_batch.read())

    def _controls(self, el: int, values: list[int]) -> Controls:
        sctlr, tcr, ttbr0, ttbr1, mair = values[2:7]
        regs = self.ctx.regs
        hcr = regs.get("HCR_EL2", 0)
        if self.python_el2:
            vttbr, vtcr = regs.get("VTTBR_EL2", 0), regs.get("VTCR_EL2", 0)
        else:
            if el == 2:
                return Controls(self.state, True, values[7], values[8], values[9], 0, values[10])
            if hcr & HCR_TGE:
                sctlr &= ~1
            vttbr, vtcr = values[11], values[12]
        return Controls(self.state, False, sctlr, tcr, ttbr0, ttbr1, mair, hcr, vtcr, vttbr)

    def _space(self, bits: int, raw: bytes) -> Space:
        """Translations under the present registers, at the level and PAN of ``bits``."""
        engine = self.engine
        el = bits >> 2 & 3
        controls = self._controls(el, engine.control_batch.held())
        return engine.tlb.space((bits, raw), el, bool(bits & PAN), controls)

    def _on_fill(self, vaddr: int, access: int) -> Translation | None:
        engine = self.engine
        batch = engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        if not bits & _EL:
            bits = 0
        spaces = engine.tlb.spaces
        space = spaces.get((bits, raw)) or self._space(bits, raw)
        shared, own = space.shared, space.own
        page = vaddr >> 12 & PAGE_MASK
        found = shared.code.get(page) or own.code.get(page)
        if access == UC_MEM_FETCH:
            if found is None:
                failed = self._failed
                found = self._translate(space, vaddr, Kind.EXECUTE)
                if found is None and (vaddr ^ batch.value(0)) >> 12:
                    # After a run Unicorn looks where its exits are, which is no fetch of the code.
                    self._failed = failed
            return found
        if bits & _EL == _EL1:
            pc = batch.value(0)
            code = shared.code.get(pc >> 12 & PAGE_MASK)
            words = None if code is None else self._code.get(code[0] >> 12)
            word = self._fetched(pc, space) if words is None else words[(pc & 0xFFF) >> 2]
            if word & _UNPRIVILEGED_MASK == _UNPRIVILEGED:
                # LDTR and STTR at EL1 are checked as EL0 accesses.
                space = spaces.get((0, raw)) or self._space(0, raw)
                shared, own = space.shared, space.own
                found = space.code(page)
        if found is None:
            found = shared.data.get(page) or own.data.get(page)
        if access == UC_MEM_WRITE:
            if found is not None and found[1] & UC_PROT_WRITE:
                return found
            return self._translate(space, vaddr, Kind.WRITE)
        if found is not None and found[1] & UC_PROT_READ:
            return found
        return self._translate(space, vaddr, Kind.READ)

    def _translate(self, space: Space, vaddr: int, kind: Kind) -> Translation | None:
        """A fill that the translation cache does not know."""
        mmu = self.services.mmu(self.state)
        engine = self.engine
        known = mmu.known(space.controls, vaddr, kind, space.privileged, space.tables)
        if isinstance(known, Fault):
            self._failed = vaddr, kind, known
            return None
        pages, memory = engine.pages, self.services.memory
        if known is not None and (known[0] >> 12 in pages or memory.region_at(known[0]) is not None):
            pa, rights, not_global, reach = known
            permissions = rights & _DATA
        else:
            access = Access(kind, space.privileged, space.pan)
            mapping = mmu.translate(space.controls, vaddr, access, space.tables)
            if isinstance(mapping, Fault):
                self._failed = vaddr, kind, mapping
                return None
            pa, not_global, reach = mapping.pa, mapping.not_global, mapping.reach
            if memory.region_at(pa) is None:
                self._failed = vaddr, kind, mapping
                return None
            permissions = (UC_PROT_READ if mapping.read else 0) | (UC_PROT_WRITE if mapping.write else 0)
        if pa >> 12 not in pages:
            if not engine.is_mapped(pa):
                return None
            pages.add(pa >> 12)
        execute = kind is Kind.EXECUTE
        if execute:
            permissions |= UC_PROT_EXEC
            if engine.executes(vaddr, pa):
                self.services.watch_code(pa)
        found = pa, permissions
        space.keep(vaddr >> 12 & PAGE_MASK, execute, found, reach, not_global)
        # A page with new exits is given to Unicorn when it knows of them, at its next run.
        return None if engine.exits_due else found

    def physical(self, va: int) -> int | None:
        """Physical address that ``va`` leads to at this very moment, from inside a hook; None where a read faults."""
        batch = self.engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        if not bits & _EL:
            bits = 0
        space = self.engine.tlb.spaces.get((bits, raw)) or self._space(bits, raw)
        page = va >> 12 & PAGE_MASK
        shared, own = space.shared, space.own
        found = shared.code.get(page) or own.code.get(page) or shared.data.get(page) or own.data.get(page)
        if found is not None:
            return found[0]
        mmu = self.services.mmu(self.state)
        known = mmu.known(space.controls, va, Kind.READ, space.privileged, space.tables)
        if isinstance(known, Fault):
            return None
        if known is not None:
            pa, rights, not_global, reach = known
            if pa >> 12 in self.engine.pages:
                space.keep(page, False, (pa, rights & _DATA), reach, not_global)
            return pa
        mapping = mmu.translate(space.controls, va, Access(Kind.READ, space.privileged, space.pan), space.tables)
        return None if isinstance(mapping, Fault) else mapping.pa

    def _fetched(self, pc: int, space: Space) -> int:
        """The load or store at PC; zero where nobody knows it any more."""
        word = self._cached_word(pc, space)
        return (self.word(pc) or 0) if word is None else word

    def _cached_word(self, pc: int, space: Space) -> int | None:
        """The instruction at ``pc`` by the translation that it was fetched with."""
        found = space.code(pc >> 12 & PAGE_MASK)
        if found is None:
            return None
        granule = found[0] >> 12
        words = self._code.get(granule)
        if words is None:
            memory = self.services.memory.granule_words(found[0])
            if memory is None:
                return None
            words = self._code[granule] = memory.cast("B").cast("I")
        return words[(pc & 0xFFF) >> 2]

    def word(self, pc: int | None = None) -> int | None:
        """The instruction at PC (or at ``pc``), as the code fetches it."""
        where = self.ctx.pc if pc is None else pc
        batch = self.engine.control_batch
        raw = batch.image(2)
        bits = batch.value(1) & _SPACE
        space = self.engine.tlb.spaces.get((bits if bits & _EL else 0, raw))
        if space is not None and not where & 3:
            cached = self._cached_word(where, space)
            if cached is not None:
                return cached
        pstate, controls = self.controls()
        access = Access(Kind.EXECUTE, bool(pstate >> 2 & 3), False)
        found = self.services.mmu(self.state).translate(controls, where, access)
        if isinstance(found, Fault):
            return None
        try:
            data = self.services.bus(self.state).read(found.pas, found.pa | where & 0xFFF, 4)
        except (GranuleProtectionFault, ExternalAbort):
            return None
        return int.from_bytes(data, "little")

    # ---- code that changes ----

    def renew_code(self, *, between_runs: bool = False) -> None:
        """Translated code follows what has been written; what cannot be done now is done between two runs."""
        engine = self.engine
        changed = set(engine.changed)
        if not engine.renew_code(self._leads_to):
            if between_runs:
                engine.drop_code()
                return
            engine.changed |= changed
        for granule in changed:
            self.services.watch_code(granule << 12)

    def _leads_to(self, page: int) -> int | None:
        """The granule that a page executes from."""
        pstate, controls = self.controls()
        access = Access(Kind.EXECUTE, bool(pstate & _EL), False)
        found = self.services.mmu(self.state).translate(controls, page << 12, access)
        return None if isinstance(found, Fault) else found.pa >> 12
