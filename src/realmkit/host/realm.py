"""A Realm as its hypervisor manages it: construction from a plan, memory on demand, sharing, reclaim, destruction.

The Host keeps books of what it gave (granules by IPA and table); the RMM checks every request.
"""

from dataclasses import dataclass, field

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, REC_RUNNABLE, RealmParams, RecParams, Rmi
from realmkit.arch.vmsa import S2_AP_READ, S2_AP_WRITE, S2_MEMATTR_SHIFT, entry_size
from realmkit.host.memory import HostMemory
from realmkit.host.rmi import RmiClient, RmiResult

SHARED_ATTRIBUTES = 6 << S2_MEMATTR_SHIFT | S2_AP_READ | S2_AP_WRITE
"""Normal Write-Back, read and write: how shared pages are mapped in the Unprotected half."""
_PAGE_LEVEL = 3
_BLOCK = entry_size(2)


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
    params: int = 0

    @property
    def unprotected_base(self) -> int:
        """First Unprotected IPA."""
        return 1 << (self.config.ipa_width - 1)

    # ---- construction ----

    def create(self) -> None:
        """RMI_REALM_CREATE with new granules."""
        config, bus = self.config, self.rmi.port.bus
        self.params = self.memory.allocate()
        count = config.rtt_num_start
        self.rtt_base = self.memory.allocate_delegated_run(count, count * GRANULE_SIZE)
        rd = self.memory.allocate_delegated()
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
        try:
            self.rmi.realm_create(rd, self.params)
        except RealmkitError:
            self.memory.undelegate(rd)
            self._release_starting_tables()
            raise
        self.rd = rd

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
        self.rmi.realm_activate(self.rd)

    def create_table(self, ipa: int, level: int) -> None:
        """RMI_RTT_CREATE of one table, which must not exist."""
        base = ipa & ~(entry_size(level - 1) - 1)
        table = self.memory.allocate_delegated()
        result = self.rmi.rtt_create(self.rd, table, base, level)
        if not result.success:
            self.memory.undelegate(table)
            raise self.rmi.error(Rmi.RTT_CREATE, (self.rd, table, base, level), result)
        self.tables[level, base] = table
        if level == _PAGE_LEVEL:
            self.blocks.discard(base)

    def create_tables_below(self, ipa: int, level: int, target: int = _PAGE_LEVEL) -> None:
        """Create the tables under a walk that stopped at ``level``, down to ``target``."""
        for missing in range(level + 1, target + 1):
            self.create_table(ipa, missing)

    def _init_ripas(self, base: int, top: int) -> None:
        while base < top:
            result = self.rmi.rtt_init_ripas(self.rd, base, top)
            if result.success:
                base = result.x1
                continue
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL:
                raise self.rmi.error(Rmi.RTT_INIT_RIPAS, (self.rd, base, top), result)
            self.create_table(base, level + 1)

    def _load_page(self, ipa: int, content: bytes, measured: bool) -> None:
        bus = self.rmi.port.bus
        source = self.params
        bus.write(Pas.NS, source, content)
        granule = self.memory.allocate_delegated()
        flags = DATA_MEASURE_CONTENT if measured else 0
        result = self.rmi.call(Rmi.DATA_CREATE, self.rd, granule, ipa, source, flags)
        level = result.rtt_level()
        if level is not None and level < _PAGE_LEVEL:
            self.create_tables_below(ipa, level)
            result = self.rmi.call(Rmi.DATA_CREATE, self.rd, granule, ipa, source, flags)
        if not result.success:
            error = self.rmi.error(Rmi.DATA_CREATE, (self.rd, granule, ipa, source, flags), result)
            self.memory.undelegate(granule)
            raise error
        self.data[ipa] = granule

    def _create_rec(self, step: CreateRec) -> None:
        bus = self.rmi.port.bus
        aux = tuple(self.memory.allocate_delegated() for _ in range(self.rmi.rec_aux_count(self.rd)))
        params = RecParams(
            flags=REC_RUNNABLE if step.runnable else 0,
            mpidr=step.mpidr,
            pc=step.pc,
            gprs=step.gprs,
            num_aux=len(aux),
            aux=aux + (0,) * (16 - len(aux)),
        )
        bus.write(Pas.NS, self.params, params.pack())
        rec = self.memory.allocate_delegated()
        try:
            self.rmi.rec_create(self.rd, rec, self.params)
        except RealmkitError:
            for pa in (rec, *aux):
                self.memory.undelegate(pa)
            raise
        run = self.memory.allocate()
        self.recs.append(RecHandle(len(self.recs), step.mpidr, rec, aux, run, step.runnable))

    # ---- memory of a running Realm ----

    def in_ram(self, ipa: int) -> bool:
        """Whether a Protected IPA is RAM by the plan."""
        return any(base <= ipa < top for base, top in self.ram)

    def provide(self, ipa: int) -> RmiResult:
        """Memory on demand: RMI_DATA_CREATE_UNKNOWN of the page at ``ipa``; an RTT status says that a page is there."""
        ipa &= ~(GRANULE_SIZE - 1)
        granule = self.memory.allocate_delegated()
        result = self.rmi.data_create_unknown(self.rd, granule, ipa)
        level = result.rtt_level()
        if level is not None and level < _PAGE_LEVEL:
            self.create_tables_below(ipa, level)
            result = self.rmi.data_create_unknown(self.rd, granule, ipa)
        if result.success:
            self.data[ipa] = granule
        else:
            self.memory.undelegate(granule)
        return result

    def reclaim(self, ipa: int) -> bool:
        """Take the page at a Protected IPA back, at any time and without the Realm's consent: whether one was there.

        The Realm finds RIPAS DESTROYED where it had RAM. Blocks are split first.
        """
        ipa &= ~(GRANULE_SIZE - 1)
        while True:
            result = self.rmi.data_destroy(self.rd, ipa)
            if result.success:
                del self.data[ipa]
                self.memory.undelegate(result.x1)
                return True
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL or result.x2 != ipa:
                return False
            self.create_table(ipa, level + 1)

    def fold(self, ipa: int) -> bool:
        """Make a 2 MB block of 512 pages that are contiguous in physical memory: whether that was possible."""
        base = ipa & ~(_BLOCK - 1)
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
        while True:
            desc = page | SHARED_ATTRIBUTES
            result = self.rmi.rtt_map_unprotected(self.rd, ipa, _PAGE_LEVEL, desc)
            if result.success:
                self.shared[ipa] = page
                return page
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL:
                self.memory.free(page)
                raise self.rmi.error(Rmi.RTT_MAP_UNPROTECTED, (self.rd, ipa, _PAGE_LEVEL, desc), result)
            self.create_tables_below(ipa, level)

    def unshare(self, ipa: int) -> None:
        """Unmap the Non-secure page at an Unprotected IPA, if there is one."""
        page = self.shared.pop(ipa, None)
        if page is not None:
            self.rmi.rtt_unmap_unprotected(self.rd, ipa, _PAGE_LEVEL)
            self.memory.free(page)

    def change_ripas(self, rec: RecHandle, base: int, top: int, to_ram: bool) -> int:
        """Serve a RIPAS change as far as possible: the address reached (RMI_RTT_SET_RIPAS, tables as needed)."""
        start = base
        while base < top:
            result = self.rmi.rtt_set_ripas(self.rd, rec.pa, base, top)
            if result.success:
                base = result.x1
                continue
            level = result.rtt_level()
            if level is None or level >= _PAGE_LEVEL:
                break
            self.create_table(base, level + 1)
        if to_ram:
            self._unshare_range(start, base)
        else:
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
            self.reclaim(ipa)

    # ---- destruction ----

    def destroy(self) -> None:
        """Destroy RECs, data, tables and the Realm; every granule goes back to the Non-secure PAS."""
        memory = self.memory
        for rec in self.recs:
            self.rmi.rec_destroy(rec.pa)
            for pa in (rec.pa, *rec.aux):
                memory.undelegate(pa)
            memory.free(rec.run)
        self.recs.clear()
        for ipa in sorted(self.data):
            if ipa in self.data and not self.reclaim(ipa):
                raise RealmkitError(f"the page at IPA {ipa:#x} could not be taken back")
        for ipa in sorted(self.shared):
            self.unshare(ipa)
        for level, ipa in sorted(self.tables, key=lambda key: (-key[0], key[1])):
            result = self.rmi.rtt_destroy(self.rd, ipa, level)
            if not result.success:
                raise self.rmi.error(Rmi.RTT_DESTROY, (self.rd, ipa, level), result)
            memory.undelegate(result.x1)
        self.tables.clear()
        if self.rd:
            self.rmi.realm_destroy(self.rd)
            memory.undelegate(self.rd)
            self.rd = 0
            self._release_starting_tables()
        if self.params:
            memory.free(self.params)
            self.params = 0

    def _release_starting_tables(self) -> None:
        for n in range(self.config.rtt_num_start):
            self.memory.undelegate(self.rtt_base + n * GRANULE_SIZE)
