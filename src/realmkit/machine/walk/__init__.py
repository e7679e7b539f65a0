"""Address translation: stage 1 and stage 2 of VMSAv8-64 and the granule protection check.

The package is usable by itself: memory and registers in, an address or a fault out. Nothing of a PE is needed.

>>> from realmkit.arch.pas import SecurityState
>>> from realmkit.machine.bus import Interconnect
>>> from realmkit.machine.gpc import GranuleProtection
>>> from realmkit.machine.memory import PhysicalMemory
>>> from realmkit.machine.platform import AddressRange
>>> from realmkit.machine.walk import Access, Controls, Kind, Mmu

One megabyte of memory, no granule protection, and the bus of the Non-secure state:

>>> memory = PhysicalMemory([AddressRange(0x8000_0000, 0x10_0000)])
>>> gpc = GranuleProtection(memory)
>>> mmu = Mmu(Interconnect(memory, gpc).bus(SecurityState.NS), gpc)

A level 1 table whose entry 0 is a 1 GB block, for EL2 with 39-bit addresses and 4 KB granules:

>>> memory.write64(0x8000_0000, 0x8000_0000 | 1 << 10 | 1 << 7 | 0b01)  # AF, read-only
>>> registers = Controls(SecurityState.NS, el2=True, sctlr=1, tcr=5 << 16 | 25, ttbr0=0x8000_0000, mair=0xFF)
>>> mmu.translate(registers, 0x1234, Access(Kind.READ))  # doctest: +NORMALIZE_WHITESPACE
Mapping(pa=2147487744, pas=<Pas.NS: 1>, read=True, write=False, execute=True, device=False,
        not_global=False, reach=30)
>>> fault = mmu.translate(registers, 0x1234, Access(Kind.WRITE))
>>> hex(fault.fsc), fault.stage  # permission fault, level 1
('0xd', 1)

``Controls`` holds the registers, :meth:`Mmu.translate` gives a :class:`Mapping` (the 4 KB page and what the access's
privilege may do with it) or a :class:`Fault` (the fault status code as ESR_ELx has it, the stage, the IPA for
HPFAR_EL2). Hardware updates of access flag and dirty state are written to memory. The cache follows the architecture:
after a change of stage 2 tables or of the granule protection table call the matching ``invalidate`` method, as software
issues a TLBI.
"""

from realmkit.machine.walk.mmu import Mmu
from realmkit.machine.walk.types import Access, Controls, Fault, Kind, Mapping

__all__ = ["Access", "Controls", "Fault", "Kind", "Mapping", "Mmu"]
