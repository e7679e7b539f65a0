"""The engines of a PE: one for each context that has run there, with what they may have to forget."""

from abc import ABC, abstractmethod
from typing import Final

from realmkit.arch.errors import InternalError
from realmkit.machine.context import CpuContext
from realmkit.machine.core.engine import Engine

POOL: Final = 16
"""Engines that are kept for contexts to come."""


class Engines(ABC):
    """Engines by context, and the one that is running."""

    def __init__(self) -> None:
        self.engines: dict[int, Engine] = {}
        """Engines by the identity of the context that they hold."""
        self._pool: list[Engine] = []
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine of the present run."""
        if self._engine is None:
            raise InternalError("no context has run on this PE")
        return self._engine

    def _engine_of(self, ctx: CpuContext, image: bool) -> Engine:
        engine = self.engines.get(id(ctx))
        if engine is not None and engine.ctx is ctx:
            return engine
        if isinstance(ctx.backing, Engine):
            ctx.backing.unload()
        engine = self._pool.pop() if self._pool else self.new_engine()
        engine.load(ctx, image)
        self.engines[id(ctx)] = engine
        return engine

    @abstractmethod
    def new_engine(self) -> Engine:
        """An engine whose hooks lead here."""

    def release(self, ctx: CpuContext) -> None:
        """The context will not run again: its engine is cleaned and kept for another."""
        engine = self.engines.pop(id(ctx), None)
        if engine is not None:
            engine.unload()
            if len(self._pool) < POOL:
                self._pool.append(engine)

    def forget_pa(self, pa: int, size: int) -> None:
        """Drop cached translations that lead to a range of physical memory."""
        first, last = pa >> 12, (pa + size - 1) >> 12
        for engine in self.engines.values():
            pages = engine.pages
            if (first in pages) if first == last else any(first <= page <= last for page in pages):
                engine.flush()

    def forget_code(self, pa: int) -> None:
        """The contents of a granule have changed: code that was translated from it goes before it can run again."""
        granule = pa >> 12
        for engine in self.engines.values():
            if granule in engine.code:
                engine.changed.add(granule)

    def forget_all_code(self, root: int) -> None:
        """Code that was translated for contexts with this VTTBR_EL2 goes before it can run again."""
        for engine in self.engines.values():
            if engine.ctx is not None and engine.ctx.read("VTTBR_EL2") == root:
                engine.changed.update(engine.code)

    def forget_vmid(self, vmid: int) -> None:
        """Drop cached translations of a VMID."""
        for engine in self.engines.values():
            ctx = engine.ctx
            if ctx is not None and ctx.read("VTTBR_EL2") >> 48 == vmid:
                engine.flush()

    def forget_translations(self, ctx: CpuContext) -> None:
        """Drop cached translations of a context."""
        engine = self.engines.get(id(ctx))
        if engine is not None:
            engine.flush()

    def forget_stage1(
        self, issuer: CpuContext, root: int, page: int | None, asid: int | None, last_level: bool
    ) -> None:
        """TLBI of EL1 by ``issuer`` for the virtual machine with this VTTBR_EL2: a page, an ASID, both, or everything.

        The engine that executes it does its own part.
        """
        for engine in self.engines.values():
            ctx = engine.ctx
            if ctx is None or ctx.read("VTTBR_EL2") != root:
                continue
            if not last_level:
                engine.tlb.forget_tables()
            if page is not None:
                large = engine.tlb.forget_page(page, asid, False)
                if large and ctx is issuer:
                    engine.flush_native()
            elif asid is not None:
                engine.tlb.forget_asid(asid)
            else:
                engine.tlb.clear()
            if ctx is not issuer:
                engine.stale = True
