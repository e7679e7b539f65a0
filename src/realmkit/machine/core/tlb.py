"""The translation cache of a context: what the PE's TLB holds, so that an engine that has lost an entry gets it back.

An engine forgets everything whenever software changes an ASID; the architecture says that entries stay valid until a
TLB invalidation. Entries are kept by the register values that produced them, for pages of 4 KB.
"""

from typing import Final, NamedTuple

from realmkit.machine.walk import Controls
from realmkit.machine.walk.stage1 import KnownTables

PAGE_MASK: Final = (1 << 44) - 1
"""Page numbers are VA[55:12], as TLBI operands have them."""
UPPER_PAGE: Final = 1 << 43
SPACES: Final = 256
"""Register images that are remembered; then the cache starts again empty."""
BLOCKS: Final = 1 << 16
"""Larger mappings that are told apart; with more of them every page counts as part of one."""
_PAGE_SHIFT: Final = 12
_REACHES: Final = (18, 17, 13, 9, 4, 2)
"""log2 of the pages that a descriptor may map: 1 GB; 512, 32 and 2 MB; 64 and 16 KB."""
_FEW: Final = 4
"""log2 of the pages that are looked up one by one; of more everything is forgotten."""
_M: Final = 1 << 0
_A1: Final = 1 << 22
_EPD1: Final = 1 << 23
_ADDRESS: Final = (1 << 48) - 1

Translation = tuple[int, int]
"""Physical address of the page, and permissions for the engine."""


class Part:
    """Translations of pages at one privilege: those of one ASID, or (``asid`` None) global ones of the upper half."""

    __slots__ = ("asid", "code", "data", "el2")

    def __init__(self, asid: int | None, el2: bool) -> None:
        self.asid, self.el2 = asid, el2
        self.data: dict[int, Translation] = {}
        self.code: dict[int, Translation] = {}


class Space(NamedTuple):
    """All translations under one image of the registers: ``own`` belong to its ASID, ``shared`` are global.

    ``lower_only``: nothing is translated through TTBR1_EL1, so ``shared`` are those of this TTBR0_EL1.
    """

    controls: Controls
    privileged: bool
    pan: bool
    own: Part
    shared: Part
    lower_only: bool
    tables: KnownTables
    blocks: set[tuple[int, int]]
    """(log2 of the reach in pages, number) of descriptors that map more than one page, whoever holds their pages."""

    def code(self, page: int) -> Translation | None:
        """The translation of a page that has been executed."""
        return self.shared.code.get(page) or self.own.code.get(page)

    def data(self, page: int) -> Translation | None:
        """The translation of a page that has been read or written."""
        return self.shared.data.get(page) or self.own.data.get(page)

    def keep(self, page: int, code: bool, found: Translation, reach: int, not_global: bool) -> None:
        """Remember a translation whose descriptor maps ``1 << reach`` bytes.

        Where both halves are in use, global entries of the lower one would belong to all ASIDs at once: they are for
        the engine alone.
        """
        if reach > _PAGE_SHIFT:
            pages = reach - _PAGE_SHIFT
            if len(self.blocks) <= BLOCKS:
                self.blocks.add((pages, page >> pages))
        if not_global or self.own.el2:
            part = self.own
        elif page & UPPER_PAGE or self.lower_only:
            part = self.shared
        else:
            return
        (part.code if code else part.data)[page] = found


class TranslationCache:
    """All translations of one context."""

    __slots__ = ("_blocks", "_parts", "spaces")

    def __init__(self) -> None:
        self.spaces: dict[tuple[int, bytes], Space] = {}
        """By EL and PAN, and the image of the registers."""
        self._parts: dict[tuple[object, ...], Part] = {}
        self._blocks: set[tuple[int, int]] = set()

    def space(self, key: tuple[int, bytes], el: int, pan: bool, controls: Controls) -> Space:
        """Make the space of new register values."""
        if len(self.spaces) >= SPACES:
            self.spaces.clear()
            self._parts.clear()
        c = controls
        if c.el2:
            own = self._part((el, c.sctlr, c.tcr, c.mair, c.ttbr0), None, True)
            space = Space(c, True, False, own, own, True, {}, self._blocks)
        else:
            common = (el, pan, c.sctlr, c.tcr, c.mair, c.vttbr, c.vtcr, c.hcr)
            asid = (c.ttbr1 if c.tcr & _A1 else c.ttbr0) >> 48
            ttbr0, ttbr1 = c.ttbr0 & _ADDRESS, c.ttbr1 & _ADDRESS
            own = self._part((*common, ttbr0, ttbr1, asid), asid, False)
            lower_only = not c.sctlr & _M or bool(c.tcr & _EPD1)
            shared = self._part((*common, ttbr0, ttbr1) if lower_only else (*common, ttbr1), None, False)
            space = Space(c, el > 0, pan, own, shared, lower_only, {}, self._blocks)
        self.spaces[key] = space
        return space

    def _part(self, key: tuple[object, ...], asid: int | None, el2: bool) -> Part:
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = Part(asid, el2)
        return part

    def clear(self) -> None:
        """Forget everything; the engine does so, too."""
        self.spaces.clear()
        self._parts.clear()
        self._blocks.clear()

    def forget_asid(self, asid: int) -> None:
        """Forget the entries of an ASID."""
        self.forget_tables()
        for part in self._parts.values():
            if part.asid == asid:
                _empty(part)

    def forget_tables(self) -> None:
        """Forget where tables are: every TLBI does so that is not for the last level alone."""
        for space in self.spaces.values():
            space.tables.clear()

    def forget_page(self, page: int, asid: int | None, el2: bool) -> bool:
        """Forget a page in one ASID (None: in all) and global entries: whether it lies in a larger mapping.

        The engine invalidates one page by itself; a larger mapping has other pages, which it has to forget as well.
        """
        reach = self._reach(page) if self._blocks else 0
        first = page >> reach << reach
        for part in self._parts.values():
            if part.el2 != el2 or not (asid is None or part.asid is None or part.asid == asid):
                continue
            if not reach:
                part.data.pop(page, None)
                part.code.pop(page, None)
            elif reach > _FEW:
                _empty(part)
            else:
                for each in range(first, first + (1 << reach)):
                    part.data.pop(each, None)
                    part.code.pop(each, None)
        return reach > 0

    def _reach(self, page: int) -> int:
        """log2 of the pages of the largest mapping that is known to have held ``page``; 0: of a single page."""
        blocks = self._blocks
        if len(blocks) > BLOCKS:
            return _REACHES[0]
        for pages in _REACHES:
            if (pages, page >> pages) in blocks:
                return pages
        return 0


def _empty(part: Part) -> None:
    part.data.clear()
    part.code.clear()
