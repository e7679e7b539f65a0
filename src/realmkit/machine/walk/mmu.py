"""Both stages and the granule protection check, joined, with a cache of the second part."""

from typing import Final

from realmkit.arch.esr import FSC_EXTERNAL_WALK, FSC_GPF, FSC_GPF_WALK, FSC_PERMISSION
from realmkit.arch.pas import Pas
from realmkit.machine.gpc import GranuleProtection
from realmkit.machine.port import Bus, ExternalAbort, GranuleProtectionFault
from realmkit.machine.walk import stage1, stage2
from realmkit.machine.walk.stage2 import Stage2
from realmkit.machine.walk.types import Access, Controls, Fault, Kind, Mapping, StageFault

CACHE_PAGES: Final = 1 << 18
"""Pages that the cache holds at most (1 GB); then it starts again empty."""
_PAGE: Final = ~0xFFF
_OUTPUT: Final = (1 << 48) - 1
_HCR_PTW: Final = 1 << 2
_NO_TABLES: Final[dict[int, tuple[Pas, int]]] = {}
Known = tuple[int, int, bool, int]
"""Physical address of a page, rights (bit n for kind n of an access), whether it is of one ASID, log2 of its reach."""
_READ, _WRITE, _EXECUTE = Kind.READ, Kind.WRITE, Kind.EXECUTE


class _Held:
    """What is known of the stage 2 of one VTTBR_EL2, by page number."""

    __slots__ = ("pages", "tables")

    def __init__(self) -> None:
        self.pages: dict[int, Stage2] = {}
        self.tables: dict[int, tuple[Pas, int]] = {}
        """Where those of them lie that have had stage 1 descriptors in them."""


class Mmu:
    """Translation of one security state.

    ``bus`` fetches descriptors, ``gpc`` checks granules. Results of stage 2 together with the granule check are cached
    by VTTBR_EL2 and page; whoever changes a stage 2 table or the granule protection table must invalidate, as on
    hardware.
    """

    def __init__(self, bus: Bus, gpc: GranuleProtection) -> None:
        self._bus = bus
        self._gpc = gpc
        self._pas = Pas(bus.state)
        self._held: dict[int, _Held] = {}
        """By VTTBR_EL2."""
        self._by_pa: dict[int, set[tuple[int, int]]] = {}
        """Physical page number to what maps it: (VTTBR_EL2, page number)."""
        self._pages = 0

    # ---- maintenance ----

    def invalidate_all(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._by_pa.clear()
        self._pages = 0

    def invalidate_vmid(self, vmid: int) -> None:
        """Forget a VMID."""
        for root in self._roots(vmid):
            for page in list(self._held[root].pages):
                self._drop(root, page)
            del self._held[root]

    def invalidate_ipa(self, vmid: int, ipa: int, size: int) -> None:
        """Forget a range of a VMID."""
        first, last = ipa >> 12, (ipa + size - 1) >> 12
        for root in self._roots(vmid):
            held = self._held[root].pages
            if last - first < len(held):
                for page in range(first, last + 1):
                    self._drop(root, page)
            else:
                for page in [page for page in held if first <= page <= last]:
                    self._drop(root, page)

    def invalidate_pa(self, pa: int, size: int) -> None:
        """Forget whatever maps a range of physical memory."""
        first, last = pa >> 12, (pa + size - 1) >> 12
        pages = (first,) if first == last else [page for page in self._by_pa if first <= page <= last]
        for page in pages:
            for root, guest_page in list(self._by_pa.get(page, ())):
                self._drop(root, guest_page)

    def _roots(self, vmid: int) -> list[int]:
        return [root for root in self._held if root >> 48 == vmid]

    def _drop(self, root: int, page: int) -> None:
        held = self._held[root]
        found = held.pages.pop(page, None)
        if found is not None:
            held.tables.pop(page, None)
            self._pages -= 1
            mapped = self._by_pa[found.pa >> 12]
            mapped.discard((root, page))
            if not mapped:
                del self._by_pa[found.pa >> 12]

    def _keep(self, root: int, page: int, found: Stage2) -> None:
        if self._pages >= CACHE_PAGES:
            self.invalidate_all()
        held = self._held.get(root)
        if held is None:
            held = self._held[root] = _Held()
        elif page in held.pages:
            self._drop(root, page)
        held.pages[page] = found
        self._pages += 1
        self._gpc.translated.add(found.pa >> 12)
        self._by_pa.setdefault(found.pa >> 12, set()).add((root, page))

    # ---- translation ----

    def translate(
        self, c: Controls, va: int, access: Access, known: stage1.KnownTables | None = None
    ) -> Mapping | Fault:
        """The page that holds ``va``, or the fault that an access of this kind takes.

        ``known`` are tables that the caller remembers for :func:`realmkit.machine.walk.stage1.translate`.
        """
        held = self._held.get(c.vttbr) if c.stage2 else None
        tables = _NO_TABLES if held is None else held.tables
        read64 = self._bus.read64

        def fetch(address: int, level: int, ns: bool) -> int:
            place = tables.get(address >> 12)
            if place is not None:
                try:
                    return read64(place[0], place[1] | address & 0xFF8)
                except (GranuleProtectionFault, ExternalAbort):
                    pass
            return self._fetch(c, address, level, ns)

        try:
            first = stage1.translate(
                c,
                va,
                access,
                fetch,
                lambda address, level, ns, old, new: self._swap(c, address, level, ns, old, new),
                known,
            )
            return self._final(c, first, access)
        except StageFault as fault:
            return _fault(fault, va, access.kind)

    def known(
        self, c: Controls, va: int, kind: Kind, privileged: bool, known: stage1.KnownTables
    ) -> Known | Fault | None:
        """What :meth:`translate` would give, if no walk of stage 1 is needed; None otherwise.

        The last descriptor is read: where its table lies and what its attributes mean is remembered.
        """
        table = known.get(va >> stage1.KNOWN_SHIFT)
        if table is None:
            return None
        address, mask, shift, ns, pa_bits, staged, leaves, _, _, _ = table
        where = address + (va >> shift & mask) * 8
        held = None
        if staged:
            held = self._held.get(c.vttbr)
            place = None if held is None else held.tables.get(where >> 12)
            if place is None:
                return None
            pas, where = place[0], place[1] | where & 0xFF8
        else:
            pas = Pas.NS if ns else self._pas
        try:
            descriptor = self._bus.read64(pas, where)
        except (GranuleProtectionFault, ExternalAbort):
            return None
        leaf = leaves.get(descriptor & stage1.ATTRIBUTES)
        if leaf is None or not leaf.rights >> kind & 1:
            return None
        rights, not_global, ns = leaf
        inside = (1 << shift) - 1
        output = descriptor & _OUTPUT & ~inside | va & inside
        if output >> pa_bits:
            return None
        if held is None:
            if not self._gpc.allowed(Pas.NS if ns else self._pas, output):
                return None
            self._gpc.translated.add(output >> 12)
            return output & _PAGE, rights, not_global, shift
        second = held.pages.get(output >> 12)
        if second is None or not second.rights[privileged] >> kind & 1:
            try:
                second = self._second(c, output, kind, privileged)
            except StageFault as fault:
                return _fault(fault, va, kind)
        return second.pa, rights & second.rights[privileged], not_global, shift

    def translate_stage1(self, c: Controls, va: int, access: Access) -> Mapping | Fault:
        """Stage 1 alone, as address translation instructions report it: its output, or the fault of its walk."""
        try:
            first = stage1.translate(
                c,
                va,
                access,
                lambda address, level, ns: self._fetch(c, address, level, ns),
                lambda address, level, ns, old, new: self._swap(c, address, level, ns, old, new),
            )
        except StageFault as fault:
            return Fault(fault.fsc, fault.stage, va, access.kind, fault.ipa, fault.s1ptw)
        address, read, write, execute, device, ns, not_global, reach = first
        pas = Pas.NS if ns else self._pas
        return Mapping(address & _PAGE, pas, read, write, execute, device, not_global, reach)

    def _final(self, c: Controls, first: stage1.Stage1, access: Access) -> Mapping:
        """The access itself: stage 2, then the granule check."""
        address, read, write, execute, device, ns, not_global, reach = first
        if not c.stage2:
            pas = Pas.NS if ns else self._pas
            if not self._gpc.allowed(pas, address):
                raise StageFault(FSC_GPF)
            self._gpc.translated.add(address >> 12)
            return Mapping(address & _PAGE, pas, read, write, execute, device, not_global, reach)
        second = self._second(c, address, access.kind, access.privileged)
        rights = second.rights[access.privileged]
        self._gpc.translated.add(second.pa >> 12)
        return Mapping(
            second.pa,
            second.pas,
            bool(read and rights & 1),
            bool(write and rights >> _WRITE & 1),
            bool(execute and rights >> _EXECUTE & 1),
            second.device or (device and not second.forced),
            not_global,
            reach,
        )

    def _second(self, c: Controls, ipa: int, kind: Kind, privileged: bool = True, walk: bool = False) -> Stage2:
        """Stage 2 and granule check of a page, from the cache if it is there; raises StageFault.

        ``walk``: the access is a walk of stage 1, which HCR_EL2.PTW keeps away from Device memory.
        """
        root, page = c.vttbr, ipa >> 12
        held = self._held.get(root)
        found = None if held is None else held.pages.get(page)
        cached = found is not None
        if found is None or (found.clean and kind is _WRITE):
            cached = False
            found = stage2.translate(
                c,
                ipa,
                kind is _WRITE,
                lambda pa, level: self._read_entry(pa, level, ipa),
                lambda pa, level, old, new: self._swap_entry(pa, level, ipa, old, new),
            )
        if not found.rights[privileged] >> kind & 1 or (walk and found.device and c.hcr & _HCR_PTW):
            raise StageFault(FSC_PERMISSION + found.level, 2, ipa)
        if not cached:
            if not self._gpc.allowed(found.pas, found.pa):
                raise StageFault(FSC_GPF, 1, ipa)
            self._keep(root, page, found)
        return found

    # ---- descriptors of stage 2 ----

    def _read_entry(self, pa: int, level: int, ipa: int) -> int:
        try:
            return self._bus.read64(self._pas, pa)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level, 2, ipa) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level, 2, ipa) from None

    def _swap_entry(self, pa: int, level: int, ipa: int, old: int, new: int) -> bool:
        try:
            if self._bus.read64(self._pas, pa) != old:
                return False
            self._bus.write64(self._pas, pa, new)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level, 2, ipa, write=True) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level, 2, ipa, write=True) from None
        return True

    # ---- descriptors of stage 1 ----

    def _locate(self, c: Controls, address: int, level: int, ns: bool, write: bool) -> tuple[Pas, int]:
        """Where a stage 1 descriptor lies."""
        if not c.stage2:
            return (Pas.NS if ns else self._pas), address
        try:
            second = self._second(c, address, _WRITE if write else _READ, walk=True)
        except StageFault as fault:
            if fault.fsc == FSC_GPF:
                raise StageFault(FSC_GPF_WALK + level, 1, address, False, write) from None
            raise StageFault(fault.fsc, fault.stage, address, True, write or fault.write) from None
        if not write and not second.device:
            self._held[c.vttbr].tables[address >> 12] = second.pas, second.pa
        return second.pas, second.pa | address & 0xFFF

    def _fetch(self, c: Controls, address: int, level: int, ns: bool) -> int:
        pas, pa = self._locate(c, address, level, ns, False)
        try:
            return self._bus.read64(pas, pa)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level) from None

    def _swap(self, c: Controls, address: int, level: int, ns: bool, old: int, new: int) -> bool:
        pas, pa = self._locate(c, address, level, ns, True)
        try:
            if self._bus.read64(pas, pa) != old:
                return False
            self._bus.write64(pas, pa, new)
        except GranuleProtectionFault:
            raise StageFault(FSC_GPF_WALK + level, write=True) from None
        except ExternalAbort:
            raise StageFault(FSC_EXTERNAL_WALK + level, write=True) from None
        return True


def _fault(fault: StageFault, va: int, kind: Kind) -> Fault:
    """The fault of an access to ``va``; a hardware update of a descriptor is a write."""
    return Fault(fault.fsc, fault.stage, va, _WRITE if fault.write else kind, fault.ipa, fault.s1ptw)
