"""The translation cache of a context: what the PE's TLB holds, so that an engine that has lost an entry gets it back.

An engine forgets everything whenever software changes an ASID; the architecture says that entries stay valid until a
TLB invalidation. Entries are kept by the register values that produced them, for pages of 4 KB.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from realmkit.machine.walk import Controls

PAGE_MASK: Final = (1 << 44) - 1
"""Page numbers are VA[55:12], as TLBI operands have them."""
UPPER_PAGE: Final = 1 << 43
SPACES: Final = 256
"""Register images that are remembered; then the cache starts again empty."""
_PAGE_SHIFT: Final = 12
_A1: Final = 1 << 22
_ADDRESS: Final = (1 << 48) - 1

Translation = tuple[int, int]
"""Physical address of the page, and permissions for the engine."""


class Half:
    """Translations of one half of the address space at one privilege; ``asid`` is None where all ASIDs share it."""

    __slots__ = ("asid", "blocks", "code", "data", "el2")

    def __init__(self, asid: int | None, el2: bool) -> None:
        self.asid, self.el2 = asid, el2
        self.data: dict[int, Translation] = {}
        self.code: dict[int, Translation] = {}
        self.blocks: set[tuple[int, int]] = set()
        """(log2 of the reach in pages, number) of descriptors that map more than one page."""


class Space(NamedTuple):
    """Both halves under one image of the registers."""

    controls: Controls
    privileged: bool
    pan: bool
    lower: Half
    upper: Half


class TranslationCache:
    """All translations of one context."""

    __slots__ = ("_halves", "spaces")

    def __init__(self) -> None:
        self.spaces: dict[tuple[int, bytes], Space] = {}
        """By EL and PAN, and the image of the registers."""
        self._halves: dict[tuple[object, ...], Half] = {}

    def space(self, key: tuple[int, bytes], el: int, pan: bool, controls: Controls) -> Space:
        """Make the space of new register values."""
        if len(self.spaces) >= SPACES:
            self.clear()
        c = controls
        if c.el2:
            half = self._half((el, c.sctlr, c.tcr, c.mair, c.ttbr0), None, True)
            space = Space(c, True, False, half, half)
        else:
            common = (el, pan, c.sctlr, c.tcr, c.mair, c.vttbr, c.vtcr, c.hcr)
            asid = (c.ttbr1 if c.tcr & _A1 else c.ttbr0) >> 48
            lower = self._half((*common, c.ttbr0 & _ADDRESS, asid), asid, False)
            upper = self._half((*common, c.ttbr1 & _ADDRESS), None, False)
            space = Space(c, el > 0, pan, lower, upper)
        self.spaces[key] = space
        return space

    def _half(self, key: tuple[object, ...], asid: int | None, el2: bool) -> Half:
        half = self._halves.get(key)
        if half is None:
            half = self._halves[key] = Half(asid, el2)
        return half

    @staticmethod
    def keep(half: Half, page: int, code: bool, found: Translation, reach: int, not_global: bool) -> None:
        """Remember a translation whose descriptor maps ``1 << reach`` bytes.

        Half spaces that ASIDs share hold global entries, the others the entries of their ASID; what does not belong to
        its half is for the engine alone.
        """
        if not half.el2 and not_global is (half.asid is None):
            return
        (half.code if code else half.data)[page] = found
        if reach > _PAGE_SHIFT:
            pages = reach - _PAGE_SHIFT
            half.blocks.add((pages, page >> pages))

    def clear(self) -> None:
        """Forget everything."""
        self.spaces.clear()
        self._halves.clear()

    def forget_asid(self, asid: int) -> None:
        """Forget the entries of an ASID."""
        for half in self._halves.values():
            if half.asid == asid:
                _empty(half)

    def forget_page(self, page: int, asid: int | None, el2: bool) -> bool:
        """Forget a page in one ASID (None: in all) and global entries: whether it lies in a larger mapping.

        The engine invalidates one page by itself; a larger mapping has other pages, which it has to forget as well.
        """
        large = False
        for half in self._matching(asid, el2):
            if half.blocks and any((pages, page >> pages) in half.blocks for pages in {b[0] for b in half.blocks}):
                _empty(half)
                large = True
            else:
                half.data.pop(page, None)
                half.code.pop(page, None)
        return large

    def _matching(self, asid: int | None, el2: bool) -> Iterator[Half]:
        for half in self._halves.values():
            if half.el2 == el2 and (asid is None or half.asid is None or half.asid == asid):
                yield half


def _empty(half: Half) -> None:
    half.data.clear()
    half.code.clear()
    half.blocks.clear()
