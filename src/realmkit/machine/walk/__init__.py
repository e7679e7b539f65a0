"""Address translation: stage 1 and stage 2 of VMSAv8-64 and the granule protection check, usable by itself."""

from realmkit.machine.walk.mmu import Mmu
from realmkit.machine.walk.types import Access, Controls, Fault, Kind, Mapping

__all__ = ["Access", "Controls", "Fault", "Kind", "Mapping", "Mmu"]
