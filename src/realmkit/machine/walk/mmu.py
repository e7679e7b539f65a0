"""Both stages and the granule protection check, joined, with a cache of the second part."""

from realmkit.arch.esr import FSC_EXTERNAL, FSC_EXTERNAL_WALK, FSC_GPF, FSC_GPF_WALK, FSC_PERMISSION
from realmkit.arch.pas import Pas, SecurityState
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.port import Bus, ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import stage1, stage2
from realmkit.machine.walk.stage1 import StageFault
from realmkit.machine.walk.stage2 import Stage2
from realmkit.machine.walk.types import Access, Controls, Fault, Kind, Mapping

_PAGE = ~0xFFF


class Mmu:
    """Translation of one security state.

    ``bus`` fetches descriptors, ``gpc`` checks granules. Results of stage 2 together with the granule check are cached
    by VMID and page; whoever changes a stage 2 table or the granule protection table must invalidate, as on hardware.
    """

    def __init__(self, bus: Bus, gpc: GranuleProtection) -> None:
        self._bus = bus
        self._gpc = gpc
        self._cache: dict[tuple[int, int], Stage2] = {}
        self._by_pa: dict[int, list[tuple[int, int]]] = {}
        self._pas = Pas.REALM if bus.state is SecurityState.REALM else Pas(bus.state)

    # ---- maintenance ----

    def invalidate_all(self) -> None:
        """Forget everything."""
        self._cache.clear()
        self._by_pa.clear()

    def invalidate_vmid(self, vmid: int) -> None:
        """Forget a VMID."""
        for key in [k for k in self._cache if k[0] >> 48 == vmid]:
            del self._cache[key]

    def invalidate_ipa(self, vmid: int, ipa: int, size: int) -> None:
        """Forget a range of a VMID."""
        first, last = ipa >> 12, (ipa + size - 1) >> 12
        cache = self._cache
        if last - first < 8:
            for key in [k for page in range(first, last + 1) for k in self._keys(vmid, page)]:
                del cache[key]
        else:
            for key in [k for k in cache if k[0] >> 48 == vmid and first <= k[1] <= last]:
                del cache[key]

    def _keys(self, vmid: int, page: int) -> list[tuple[int, int]]:
        return [(v, page) for v in self._roots(vmid) if (v, page) in self._cache]

    def _roots(self, vmid: int) -> set[int]:
        return {k[0] for k in self._cache if k[0] >> 48 == vmid}

    def invalidate_pa(self, pa: int, size: int) -> None:
        """Forget whatever maps a range of physical memory."""
        first, last = pa >> 12, (pa + size - 1) >> 12
        pages = (first,) if first == last else [page for page in self._by_pa if first <= page <= last]
        for page in pages:
            for key in self._by_pa.pop(page, ()):
                self._cache.pop(key, None)

    # ---- translation ----

    def translate(self, c: Controls, va: int, access: Access) -> Mapping | Fault:
        """The page that holds ``va``, or the fault that an access of this kind takes."""
        try:
            first = stage1.translate(
                c,
                va,
                access,
                lambda address, level: self._fetch(c, address, level),
                lambda address, level, old, new: self._swap(c, address, level, old, new),
            )
            return self._final(c, first, va, access)
        except StageFault as fault:
            kind = Kind.WRITE if fault.write else access.kind
            return Fault(fault.fsc, fault.stage, va, kind, fault.ipa, fault.s1ptw)

    def _final(self, c: Controls, first: stage1.Stage1, va: int, access: Access) -> Mapping | Fault:
        if not c.stage2:
            pas = self._pas
            if not self._gpc.allowed(pas, first.address):
                return Fault(FSC_GPF, 1, va, access.kind)
            return Mapping(first.address & _PAGE, pas, *first[1:])
        second = self.stage2_page(c, first.address)
        execute = second.execute_privileged if access.privileged else second.execute_user
        if not (second.read, second.write, execute)[access.kind]:
            return Fault(FSC_PERMISSION + second.level, 2, va, access.kind, first.address)
        return Mapping(
            second.pa,
            second.pas,
            first.read and second.read,
            first.write and second.write,
            first.execute and execute,
            first.device or second.device,
        )

    def stage2_page(self, c: Controls, ipa: int) -> Stage2:
        """Stage 2 and granule check of a page, from the cache if it is there; raises StageFault."""
        key = (c.vttbr, ipa >> 12)
        found = self._cache.get(key)
        if found is None:
            found = stage2.translate(c, ipa, lambda pa, level: self._read_table(pa, level, 2, ipa))
            if not self._gpc.allowed(found.pas, found.pa):
                raise StageFault(FSC_GPF, 1, ipa)
            self._cache[key] = found
            self._by_pa.setdefault(found.pa >> 12, []).append(key)
        return found

    def _read_table(self, pa: int, level: int, stage: int, ipa: int) -> int:
        try:
            return self._bus.read64(self._pas, pa)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level, stage, ipa) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level, stage, ipa) from None

    def _locate(self, c: Controls, address: int, level: int, write: bool) -> tuple[Pas, int]:
        """Where a stage 1 descriptor lies."""
        if not c.stage2:
            return self._pas, address
        try:
            second = self.stage2_page(c, address)
        except StageFault as fault:
            if fault.fsc == FSC_GPF:
                raise StageFault(FSC_GPF_WALK + level, 1, address, False, write) from None
            raise StageFault(fault.fsc, fault.stage, address, True, write) from None
        if not (second.write if write else second.read):
            raise StageFault(FSC_PERMISSION + second.level, 2, address, True, write)
        return second.pas, second.pa | address & 0xFFF

    def _fetch(self, c: Controls, address: int, level: int) -> int:
        pas, pa = self._locate(c, address, level, False)
        try:
            return self._bus.read64(pas, pa)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level) from None

    def _swap(self, c: Controls, address: int, level: int, old: int, new: int) -> bool:
        pas, pa = self._locate(c, address, level, True)
        try:
            if self._bus.read64(pas, pa) != old:
                return False
            self._bus.write64(pas, pa, new)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL) from None
        return True
