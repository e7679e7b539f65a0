"""A plain VM as its hypervisor manages it: memory, stage 2 and VCPU contexts, all open to the Host."""

from dataclasses import dataclass
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage
from realmkit.arch.vmsa import HCR_EL2
from realmkit.host.memory import BLOCK, HostMemory
from realmkit.host.stage2 import Stage2Tables
from realmkit.machine.port import PSTATE_RESET_EL1, CpuContext, HostPort

_HCR: Final = HCR_EL2.make(VM=1, SWIO=1, FMO=1, IMO=1, AMO=1, FB=1, BSU=1, TWI=1, TID3=1, TSC=1, RW=1, E2H=1)
_CNTHCTL: Final = 0xC00
"""CNTHCTL_EL2 with E2H: EL1PCTEN, EL1PTEN."""
_SCTLR_EL1_RESET: Final = 0xC5_0878
"""RES1 bits: MMU and caches off."""
_PAGE_LEVEL, _BLOCK_LEVEL = 3, 2


@dataclass(slots=True)
class VmVcpu:
    """A VCPU: its registers, and what its last exit left open."""

    mpidr: int
    ctx: CpuContext
    runnable: bool
    abort: tuple[int, int] | None = None
    """(ESR, FAR) of a data abort that the Host may emulate or refuse."""
    psci: tuple[int, int, int] | None = None
    """(function, entry point, context identifier) of a call about another VCPU."""
    timer_masks: int = 0
    """CNTHCTL_EL2 bits of the timers that the last exit reported asserted."""


class HostVm:
    """One VM and the memory that backs it: 2 MB blocks on demand while there are enough, pages after that."""

    def __init__(
        self, port: HostPort, memory: HostMemory, ipa_width: int, vmid: int, ram: tuple[tuple[int, int], ...]
    ) -> None:
        self.port = port
        self.memory = memory
        self.vmid = vmid
        self.ram = ram
        self.tables = Stage2Tables(port.bus, memory, ipa_width, vmid)
        self.blocks: dict[int, int] = {}
        """Guest address to physical address of 2 MB blocks."""
        self.pages: dict[int, int] = {}
        """The same of single pages."""
        self.shown: dict[int, int] = {}
        """The same of pages outside RAM that the VM can only read."""
        self.vcpus: list[VmVcpu] = []

    def build(self, plan: LaunchPlan) -> None:
        """Execute the steps of a plan that mean something without a Realm: pages and VCPUs."""
        for step in plan.steps:
            match step:
                case LoadPage(ipa, content, _):
                    self.port.bus.write(Pas.NS, self.page(ipa), content)
                case CreateRec(mpidr, pc, gprs, runnable):
                    self.vcpus.append(VmVcpu(mpidr, self.context(mpidr, pc, gprs), runnable))
                case CreateTable() | InitRipas():
                    pass

    def context(self, mpidr: int, pc: int, gprs: tuple[int, ...]) -> CpuContext:
        """A VCPU after reset that starts at ``pc`` with X0.. = ``gprs``."""
        ctx = CpuContext(x=[*gprs, *[0] * (31 - len(gprs))], pc=pc, pstate=PSTATE_RESET_EL1)
        ctx.regs.update(
            {
                "SCTLR_EL1": _SCTLR_EL1_RESET,
                "CNTHCTL_EL2": _CNTHCTL,
                "VMPIDR_EL2": 1 << 31 | mpidr & 0xFF_FFFF | (mpidr >> 24 & 0xFF) << 32,
                "VPIDR_EL2": self.port.id_register("MIDR_EL1"),
                "HCR_EL2": _HCR,
                "VTTBR_EL2": self.tables.vttbr,
                "VTCR_EL2": self.tables.vtcr,
            }
        )
        return ctx

    def in_ram(self, ipa: int) -> bool:
        """Whether a guest address is RAM by the plan."""
        return any(base <= ipa < top for base, top in self.ram)

    def page(self, ipa: int) -> int:
        """Physical address of the page at ``ipa``, which gets memory if it has none."""
        ipa &= -GRANULE_SIZE
        found = self.tables.find(ipa)
        if found is not None:
            return found
        if not self.in_ram(ipa):
            raise RealmkitError(f"guest address {ipa:#x} is outside the VM's RAM")
        block = ipa & -BLOCK
        if not any(block <= page < block + BLOCK for page in self.pages):
            base = self.memory.reserve_block()
            if base is not None:
                self.blocks[block] = base
                self.tables.map(block, base, _BLOCK_LEVEL)
                return base + ipa - block
        page = self.memory.allocate()
        self.pages[ipa] = page
        self.tables.map(ipa, page, _PAGE_LEVEL)
        return page

    def dma_page(self, address: int) -> int | None:
        """Page that a device may use for a guest address: all of RAM."""
        return self.page(address) if self.in_ram(address) else None

    def show(self, ipa: int, content: bytes) -> None:
        """Let the VM read 4 KB outside its RAM without an exit; writes exit as before."""
        page = self.shown.get(ipa)
        if page is None:
            page = self.shown[ipa] = self.memory.allocate()
            self.tables.map(ipa, page, _PAGE_LEVEL, writable=False)
        self.port.bus.write(Pas.NS, page, content)

    def hide(self, ipa: int) -> None:
        """The opposite of :meth:`show`."""
        page = self.shown.pop(ipa, None)
        if page is not None:
            self.tables.unmap(ipa)
            self.port.tlbi_ipa(self.vmid, ipa, GRANULE_SIZE)
            self.memory.free(page)

    def destroy(self) -> None:
        """Forget the VCPUs and take all memory back."""
        for vcpu in self.vcpus:
            self.port.release(vcpu.ctx)
        self.vcpus.clear()
        self.port.tlbi_vmid(self.vmid)
        for base in self.blocks.values():
            for pa in range(base, base + BLOCK, GRANULE_SIZE):
                self.memory.free(pa)
        for pa in (*self.pages.values(), *self.shown.values()):
            self.memory.free(pa)
        self.shown.clear()
        self.blocks.clear()
        self.pages.clear()
        self.tables.release()
