"""Which physical granules back a Realm's memory: the right ones for block entries, while there are enough."""

from dataclasses import dataclass
from typing import Final

from realmkit.arch.pas import GRANULE_SIZE
from realmkit.host.memory import BLOCK, BLOCK_PAGES, HostMemory

_ALL: Final = (1 << BLOCK_PAGES) - 1


@dataclass(slots=True)
class _Block:
    """The physical block that backs 2 MB of IPA space; ``base`` is 0 where memory was too scarce for one."""

    base: int
    unused: int
    """Granules that were not handed out yet, as bits."""
    in_place: int = 0
    """Pages of the Realm that lie in their place of the physical block."""


class Backing:
    """Hands out delegated granules by IPA.

    The first page of each 2 MB of IPA space reserves a 2 MB block of physical memory, in which every page has its
    place: when all 512 are there, the RMM can fold them into one entry.
    """

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory
        self._blocks: dict[int, _Block] = {}

    def take(self, ipa: int) -> int:
        """A delegated granule for the page at ``ipa``."""
        number, offset = divmod(ipa, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            base = self._memory.reserve_block()
            block = _Block(0, 0) if base is None else _Block(base, _ALL)
            self._blocks[number] = block
        bit = 1 << offset // GRANULE_SIZE
        if not block.unused & bit:
            return self._memory.allocate_delegated()
        block.unused &= ~bit
        return self._memory.delegate(block.base + offset)

    def assigned(self, ipa: int, granule: int) -> None:
        """The Realm has the granule at ``ipa`` now."""
        number, offset = divmod(ipa, BLOCK)
        block = self._blocks[number]
        if granule == block.base + offset:
            block.in_place += 1

    def removed(self, ipa: int, granule: int) -> None:
        """The Realm has it no longer."""
        number, offset = divmod(ipa, BLOCK)
        block = self._blocks.get(number)
        if block is not None and granule == block.base + offset:
            block.in_place -= 1

    def is_complete(self, ipa: int) -> bool:
        """Whether the 2 MB around ``ipa`` can become one entry."""
        block = self._blocks.get(ipa // BLOCK)
        return block is not None and block.in_place == BLOCK_PAGES

    def complete(self) -> list[int]:
        """IPAs of all 2 MB that can become one entry, ascending."""
        return [number * BLOCK for number, block in sorted(self._blocks.items()) if block.in_place == BLOCK_PAGES]

    def release(self) -> None:
        """Give back what was reserved and never handed out."""
        for block in self._blocks.values():
            self._memory.free_reserve(block.base, block.unused)
        self._blocks.clear()
