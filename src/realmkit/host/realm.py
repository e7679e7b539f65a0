"""A Realm as its hypervisor manages it: construction from a plan, memory on demand, sharing, reclaim, destruction.

The Host keeps books of what it gave (granules by IPA and table); the RMM checks every request.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, MAX_REC_AUX, REC_RUNNABLE, RealmParams, RecParams, Rmi
from realmkit.arch.vmsa import S2_AP_READ, S2_AP_WRITE, S2_MEMATTR_SHIFT, entry_size
from realmkit.host.backing import Backing
from realmkit.host.intervals import Intervals
from realmkit.host.memory import BLOCK, HostMemory
from realmkit.host.rmi import RmiClient

SHARED_ATTRIBUTES: Final = 6 << S2_MEMATTR_SHIFT | S2_AP_READ | S2_AP_WRITE
"""Normal Write-Back, read and write: how shared pages are mapped in the Unprotected half."""
SHOWN_ATTRIBUTES: Final = SHARED_ATTRIBUTES & ~S2_AP_WRITE
FAULT_AROUND: Final = 16
"""Pages, a power of two, that one fault on memory to be had on demand brings."""
RIPAS_COMMANDS: Final = 256
"""RMI_RTT_SET_RIPAS commands for one request of a Realm: what is left it has to ask for again."""
_PAGE_LEVEL: Final = 3


@dataclass(slots=True)
class RecHandle:
    """A REC: its granule, its auxiliary granules, its run page and what the Host knows of it."""

    index: int
    mpidr: int
    pa: int
    aux: tuple[int, ...]
    run: int
    on: bool


@dataclass(slots=True)
class HostRealm:
    """One Realm and the memory that backs it."""

    rmi: RmiClient
    memory: HostMemory
    config: RealmConfiguration
    vmid: int
    ram: tuple[tuple[int, int], ...] = ()
    rd: int = 0
    rtt_base: int = 0
    recs: list[RecHandle] = field(default_factory=list)
    data: dict[int, int] = field(default_factory=dict)
    """Protected IPA to granule, for pages; a block is its pages."""
    blocks: set[int] = field(default_factory=set)
    """IPAs of 2 MB blocks."""
    tables: dict[tuple[int, int], int] = field(default_factory=dict)
    """(level, IPA) to table."""
    shared: dict[int, int] = field(default_factory=dict)
    """Unprotected IPA to Non-secure page."""
    shown: dict[int, int] = field(default_factory=dict)
    """The same of pages that the Realm can only read."""
    empty: Intervals = field(default_factory=Intervals)
    """Parts of RAM that the Realm has made RIPAS EMPTY: what it shares."""
    params: int = 0
    unprotected_base: int = field(init=False)
    """First Unprotected IPA."""
    _withheld: set[int] = field(default_factory=set)
    """Pages that were reclaimed: they come back only when the Realm itself asks for them."""
    _backing: Backing = field(init=False)

    def __post_init__(self) -> None:
        self.unprotected_base = 1 << (self.config.ipa_width - 1)
        self._backing = Backing(self.memory)

    # ---- construction ----

    def create(self) -> None:
        """RMI_REALM_CREATE with new granules. When it fails, :meth:`destroy` gives back what there is."""
        config, bus = self.config, self.rmi.port.bus
        self.params = self.memory.allocate()
        count = config.rtt_num_start
        self.rtt_base = self.memory.allocate_delegated_run(count, count * GRANULE_SIZE)
        params = RealmParams(
            flags=config.flags,
            s2sz=config.ipa_width,
            sve_vl=config.sve_vl,
            num_bps=config.num_bps,
            num_wps=config.num_wps,
            pmu_num_ctrs=config.pmu_num_ctrs,
            hash_algo=config.hash_algo,
            rpv=config.rpv,
            vmid=self.vmid,
            rtt_base=self.rtt_base,
            rtt_level_start=config.rtt_level_start,
            rtt_num_start=count,
        )
        bus.write(Pas.NS, self.params, params.pack())
        rd = self.memory.allocate_delegated()
        with self._lent(rd):
            self.rmi.realm_create(rd, self.params)
        self.rd = rd

    @contextmanager
    def _lent(self, *granules: int) -> Iterator[None]:
        """Take delegated granules back when what they were meant for fails."""
        try:
            yield
        except BaseException:
            for granule in granules:
                self.memory.undelegate(granule)
            raise

    def build(self, plan: LaunchPlan) -> None:
        """Execute every step of a plan, then RMI_REALM_ACTIVATE."""
        for step in plan.steps:
            match step:
                case CreateTable(ipa, level):
                    self.create_table(ipa, level)
                case InitRipas(base, top, _):
                    self._init_ripas(base, top)
                case LoadPage(ipa, content, measured):
                    self._load_page(ipa, content, measured)
                case CreateRec():
                    self._create_rec(step)
        for block in self._backing.complete():
            self.fold(block)
        self.rmi.realm_activate(self.rd)

    def create_table(self, ipa: int, level: int) -> None:
        """RMI_RTT_CREATE of one table, which must not exist."""
        base = ipa & -entry_size(level - 1) if 0 < level <= _PAGE_LEVEL else ipa
        table = self.memory.allocate_delegated()
        with self._lent(table):
            result = self.rmi.rtt_create(self.rd, table, base, level)
            if not result.success:
                raise self.rmi.error(Rmi.RTT_CREATE, (self.rd, table, base, level), result)
        self.tables[level, base] = table
        if level == _PAGE_LEVEL:
            self.blocks.discard(base)

    def create_tables_below(self, ipa: int, level: int, target: int = _PAGE_LEVEL) -> None:
        """Create the tables under a walk that stopped at ``level``, down to ``target``."""
        for missing in range(level + 1, target + 1):
            self.create_table(ipa, missing)

    def _init_ripas(self, base: int, top: int) -> None:
        while True:
            result = self.rmi.rtt_init_ripas(self.rd, base, top)
            if result.success:
                base = result.x1
                if base >= top:
                    return
                continue
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL:
                raise self.rmi.error(Rmi.RTT_INIT_RIPAS, (self.rd, base, top), result)
            self.create_table(base, level + 1)

    def _load_page(self, ipa: int, content: bytes, measured: bool) -> None:
        bus = self.rmi.port.bus
        source = self.params
        bus.write(Pas.NS, source, content)
        granule = self._backing.take(ipa)
        flags = DATA_MEASURE_CONTENT if measured else 0
        with self._lent(granule):
            result = self.rmi.call(Rmi.DATA_CREATE, self.rd, granule, ipa, source, flags)
            level = result.rtt_level()
            if level is not None and level < _PAGE_LEVEL:
                self.create_tables_below(ipa, level)
                result = self.rmi.call(Rmi.DATA_CREATE, self.rd, granule, ipa, source, flags)
            if not result.success:
                raise self.rmi.error(Rmi.DATA_CREATE, (self.rd, granule, ipa, source, flags), result)
        self._assigned(ipa, granule)

    def _assigned(self, ipa: int, granule: int) -> None:
        self.data[ipa] = granule
        self._backing.assigned(ipa, granule)

    def _create_rec(self, step: CreateRec) -> None:
        count = self.rmi.rec_aux_count(self.rd)
        with ExitStack() as granules:
            taken = []
            for _ in range(1 + count):
                taken.append(self.memory.allocate_delegated())
                granules.enter_context(self._lent(taken[-1]))
            rec, *aux = taken
            params = RecParams(
                flags=REC_RUNNABLE if step.runnable else 0,
                mpidr=step.mpidr,
                pc=step.pc,
                gprs=step.gprs,
                num_aux=count,
                aux=(*aux, *(0,) * (MAX_REC_AUX - count)),
            )
            self.rmi.port.bus.write(Pas.NS, self.params, params.pack())
            self.rmi.rec_create(self.rd, rec, self.params)
        handle = RecHandle(len(self.recs), step.mpidr, rec, tuple(aux), 0, step.runnable)
        self.recs.append(handle)
        handle.run = self.memory.allocate()

    # ---- memory of a running Realm ----

    def in_ram(self, ipa: int) -> bool:
        """Whether a Protected IPA is RAM by the plan."""
        for base, top in self.ram:  # noqa: SIM110 - on the way of every access to a device
            if base <= ipa < top:
                return True
        return False

    def provide(self, ipa: int) -> bool:
        """Memory on demand for the page at ``ipa``, and for its neighbours that have none yet.

        False when the Realm has a page there already: it faults because its RIPAS is DESTROYED.
        """
        ipa &= -GRANULE_SIZE
        if ipa in self.data or not self._provide_page(ipa):
            return False
        self._withheld.discard(ipa)
        first = ipa & -(FAULT_AROUND * GRANULE_SIZE)
        for page in range(first, first + FAULT_AROUND * GRANULE_SIZE, GRANULE_SIZE):
            if page in self.data or page in self._withheld or page in self.empty or not self.in_ram(page):
                continue
            if not self._provide_page(page):
                break
        if self._backing.is_complete(ipa):
            self.fold(ipa)
        return True

    def _provide_page(self, ipa: int) -> bool:
        """RMI_DATA_CREATE_UNKNOWN, with tables as needed: whether the page was missing."""
        granule = self._backing.take(ipa)
        with self._lent(granule):
            result = self.rmi.data_create_unknown(self.rd, granule, ipa)
            level = result.rtt_level()
            if level is not None and level < _PAGE_LEVEL:
                self.create_tables_below(ipa, level)
                result = self.rmi.data_create_unknown(self.rd, granule, ipa)
        if not result.success:
            self.memory.undelegate(granule)
            return False
        self._assigned(ipa, granule)
        return True

    def reclaim(self, ipa: int) -> bool:
        """Take the page at an IPA back, at any time and without the Realm's consent: whether one was there.

        The Realm finds RIPAS DESTROYED where it had RAM, and nothing where it shared a page. Blocks are split first.
        """
        ipa &= -GRANULE_SIZE
        if ipa >= self.unprotected_base:
            return self.unshare(ipa)
        taken = self._take_back(ipa)
        if taken:
            self._withheld.add(ipa)
        return taken

    def _take_back(self, ipa: int) -> bool:
        while True:
            result = self.rmi.data_destroy(self.rd, ipa)
            if result.success:
                self.data.pop(ipa, None)
                self._backing.removed(ipa, result.x1)
                self.memory.undelegate(result.x1)
                return True
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL or result.x2 != ipa:
                return False
            self.create_table(ipa, level + 1)

    def fold(self, ipa: int) -> bool:
        """Make a 2 MB block of 512 pages that are contiguous in physical memory: whether that was possible."""
        base = ipa & -BLOCK
        result = self.rmi.rtt_fold(self.rd, base, _PAGE_LEVEL)
        if not result.success:
            return False
        self.memory.undelegate(self.tables.pop((_PAGE_LEVEL, base)))
        if base in self.data:
            self.blocks.add(base)
        return True

    def share(self, ipa: int) -> int:
        """Map a Non-secure page at an Unprotected IPA: its physical address."""
        ipa &= ~(GRANULE_SIZE - 1)
        if ipa in self.shared:
            return self.shared[ipa]
        page = self.memory.allocate()
        self._map_unprotected(ipa, page, SHARED_ATTRIBUTES)
        self.shared[ipa] = page
        return page

    def _map_unprotected(self, ipa: int, page: int, attributes: int) -> None:
        """Map a new page, which is free again where that fails."""
        desc = page | attributes
        try:
            result = self.rmi.rtt_map_unprotected(self.rd, ipa, _PAGE_LEVEL, desc)
            level = result.rtt_level()
            if level is not None and level < _PAGE_LEVEL:
                self.create_tables_below(ipa, level)
                result = self.rmi.rtt_map_unprotected(self.rd, ipa, _PAGE_LEVEL, desc)
            if not result.success:
                raise self.rmi.error(Rmi.RTT_MAP_UNPROTECTED, (self.rd, ipa, _PAGE_LEVEL, desc), result)
        except BaseException:
            self.memory.free(page)
            raise

    def show(self, ipa: int, content: bytes) -> None:
        """Let the Realm read 4 KB at an Unprotected IPA outside RAM without an exit; writes exit as before."""
        page = self.shown.get(ipa)
        if page is None:
            page = self.memory.allocate()
            self.rmi.port.bus.write(Pas.NS, page, content)
            self._map_unprotected(ipa, page, SHOWN_ATTRIBUTES)
            self.shown[ipa] = page
        else:
            self.rmi.port.bus.write(Pas.NS, page, content)

    def hide(self, ipa: int) -> None:
        """The opposite of :meth:`show`."""
        page = self.shown.pop(ipa, None)
        if page is not None:
            self.rmi.rtt_unmap_unprotected(self.rd, ipa, _PAGE_LEVEL)
            self.memory.free(page)

    def unshare(self, ipa: int) -> bool:
        """Unmap the Non-secure page at an Unprotected IPA: whether there was one."""
        page = self.shared.pop(ipa, None)
        if page is None:
            return False
        self.rmi.rtt_unmap_unprotected(self.rd, ipa, _PAGE_LEVEL)
        self.memory.free(page)
        return True

    def dma_page(self, address: int) -> int | None:
        """Non-secure page that a device may use for a guest address, with or without the shared bit.

        None where the Realm shares nothing. A page that it shares and has not touched yet is mapped now.
        """
        page = address & -GRANULE_SIZE & ~self.unprotected_base
        if page >= self.unprotected_base:
            return None
        alias = page | self.unprotected_base
        if alias not in self.shared and page in self.empty:
            return self.share(alias)
        return self.shared.get(alias)

    def change_ripas(self, rec: RecHandle, base: int, top: int, to_ram: bool) -> int:
        """Serve a RIPAS change inside RAM as far as one exit is good for: the address reached.

        Outside RAM everything is EMPTY and stays so: nothing is done, and no tables are spent on it.
        """
        start = base
        limit = next((end for first, end in self.ram if first <= base < end), base)
        top = min(top, limit)
        commands = 0
        while base < top and commands < RIPAS_COMMANDS:
            commands += 1
            result = self.rmi.rtt_set_ripas(self.rd, rec.pa, base, top)
            if result.success:
                base = result.x1
                continue
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL:
                break
            self.create_table(base, level + 1)
        if to_ram:
            self.empty.remove(start, base)
            self._withheld -= {page for page in self._withheld if start <= page < base}
            self._unshare_range(start, base)
        else:
            self.empty.add(start, base)
            self._reclaim_range(start, base)
        return base

    def _unshare_range(self, base: int, top: int) -> None:
        offset = self.unprotected_base
        for ipa in [i for i in self.shared if base <= i - offset < top]:
            self.unshare(ipa)

    def _reclaim_range(self, base: int, top: int) -> None:
        if top - base <= len(self.data) * GRANULE_SIZE:
            pages = [ipa for ipa in range(base, top, GRANULE_SIZE) if ipa in self.data]
        else:
            pages = sorted(ipa for ipa in self.data if base <= ipa < top)
        for ipa in pages:
            self._take_back(ipa)
        for block in {ipa & -BLOCK for ipa in pages if base <= ipa & -BLOCK and (ipa & -BLOCK) + BLOCK <= top}:
            self.fold(block)

    # ---- destruction ----

    def destroy(self) -> None:
        """Destroy RECs, data, tables and the Realm; every granule goes back to the Non-secure PAS.

        Works on a Realm in any state of construction. Cost grows with what the Realm has, not with its size.
        """
        memory = self.memory
        while self.recs:
            rec = self.recs[-1]
            self.rmi.rec_destroy(rec.pa)
            self.recs.pop()
            for pa in (rec.pa, *rec.aux):
                memory.undelegate(pa)
            if rec.run:
                memory.free(rec.run)
        for ipa in sorted(self.data):
            if not self._take_back(ipa):
                raise RealmkitError(f"the page at IPA {ipa:#x} could not be taken back")
        for ipa in sorted(self.shared):
            self.unshare(ipa)
        for ipa in sorted(self.shown):
            self.hide(ipa)
        for level, ipa in sorted(self.tables, key=lambda key: (-key[0], key[1])):
            result = self.rmi.rtt_destroy(self.rd, ipa, level)
            if not result.success:
                raise self.rmi.error(Rmi.RTT_DESTROY, (self.rd, ipa, level), result)
            del self.tables[level, ipa]
            memory.undelegate(result.x1)
        self._backing.release()
        if self.rd:
            self.rmi.realm_destroy(self.rd)
            rd, self.rd = self.rd, 0
            memory.undelegate(rd)
        if self.rtt_base:
            base, self.rtt_base = self.rtt_base, 0
            for n in range(self.config.rtt_num_start):
                memory.undelegate(base + n * GRANULE_SIZE)
        if self.params:
            memory.free(self.params)
            self.params = 0
