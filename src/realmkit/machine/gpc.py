"""The granule protection check of the machine: registers, and a cache that TLBI by PA invalidates (Arm ARM D9).

Like the hardware's, the cache holds what a walk found until it is invalidated: software that changes a granule
protection table entry without TLBI RPALOS may see the old one.
"""

from collections.abc import Callable
from typing import Final

from realmkit.arch.pas import GRANULE_SHIFT, GRANULE_SIZE, Gpi, Pas
from realmkit.machine.gpt import GpcFault, GpcFaultKind, GptConfig, allows, check, walk
from realmkit.machine.memory import PhysicalMemory

CACHE_GRANULES: Final = 1 << 17
"""Granules that the cache holds at most (512 MB); then it starts again empty."""
_NOTHING: Final = -1 << 4
"""Stands for a granule that is not cached: its low nibble is the GPI of no physical address space."""
_ANY: Final = int(Gpi.ANY)

InvalidationListener = Callable[[int, int], None]
"""Called with (pa, size) when cached granule protection information of a range is invalidated."""


class GranuleProtection:
    """GPCCR_EL3, GPTBR_EL3 and the check that every access to physical memory passes. Disabled at reset.

    ``listeners`` hear of every invalidation: whoever keeps the outcome of a check (translation caches, engines) drops
    it then.
    """

    __slots__ = ("_cache", "_config", "_memory", "_plain", "gpccr", "gptbr", "listeners", "pa_bits", "translated")

    def __init__(self, memory: PhysicalMemory, pa_bits: int = 48) -> None:
        self._memory = memory
        self.pa_bits = pa_bits
        self.listeners: list[InvalidationListener] = []
        self.translated: set[int] = set()
        """Granules that a translation has led to since the last invalidation that named just them: nobody else keeps
        translations of them."""
        self._cache: dict[int, int] = {}
        """Granule number to GPI, with the level of the entry above it."""
        self.gpccr = 0
        self.gptbr = 0
        self._config = GptConfig.decode(0, 0, pa_bits)
        self._plain: GptConfig | None = None
        """The configuration if the tables alone decide about addresses below its limit."""

    def configure(self, gpccr: int, gptbr: int) -> None:
        """Write GPCCR_EL3 and GPTBR_EL3 of all PEs and forget what was cached."""
        self.gpccr, self.gptbr = gpccr, gptbr
        self._config = config = GptConfig.decode(gpccr, gptbr, self.pa_bits)
        self._plain = None
        if isinstance(config, GptConfig) and config.enabled and not config.disabled_pas:
            self._plain = config
        self.invalidate_all()

    def allowed(self, pas: int, pa: int) -> bool:
        """Whether an access to ``pa`` in ``pas`` passes the check."""
        held = self._cache.get(pa >> GRANULE_SHIFT, _NOTHING) & 0xF
        # A GPI that names one physical address space is 8 plus the code of that space.
        return held == 8 + pas or held == _ANY or self.check(pas, pa) is None

    def check(self, pas: int, pa: int) -> GpcFault | None:
        """The check, with the fault when it fails."""
        held = self._cache.get(pa >> GRANULE_SHIFT)
        if held is None:
            config = self._plain
            if config is None or pa >> config.t:
                return check(self._config, self._memory.read64, Pas(pas), pa)
            result = walk(config, self._memory.read64, pa)
            if isinstance(result, GpcFault):
                return result
            gpi, level, _ = result
            held = gpi | level << 4
            if len(self._cache) >= CACHE_GRANULES:
                self._cache.clear()
            self._cache[pa >> GRANULE_SHIFT] = held
        if held & 0xF == 8 + pas:
            return None
        gpi = Gpi(held & 0xF)
        return None if allows(gpi, Pas(pas)) else GpcFault(GpcFaultKind.PROTECTION, held >> 4, gpi)

    def gpi(self, pa: int) -> Gpi | None:
        """What the tables say of a granule now, past the cache; None when the check is off or has no answer."""
        config = self._config
        if isinstance(config, GpcFault) or not config.enabled or pa >> config.t:
            return None
        result = walk(config, self._memory.read64, pa)
        return None if isinstance(result, GpcFault) else result.gpi

    def invalidate(self, pa: int, size: int) -> None:
        """TLBI RPAOS, RPALOS: forget cached information about [pa, pa + size)."""
        cache = self._cache
        if size == GRANULE_SIZE:
            cache.pop(pa >> GRANULE_SHIFT, None)
        else:
            first, last = pa >> GRANULE_SHIFT, (pa + size - 1) >> GRANULE_SHIFT
            for granule in [g for g in cache if first <= g <= last]:
                del cache[granule]
        for listener in self.listeners:
            listener(pa, size)

    def invalidate_all(self) -> None:
        """TLBI PAALLOS."""
        self._cache.clear()
        for listener in self.listeners:
            listener(0, 1 << 52)
