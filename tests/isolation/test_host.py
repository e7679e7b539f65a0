"""The Host tries to reach what it gave away: by Python, by real code at NS-EL2, and by a DMA master."""

from collections.abc import Callable

import pytest

from realmkit.arch.esr import FSC_GPF, FSC_GPF_WALK, Ec
from realmkit.arch.events import ExceptionTaken, GptChange, RttChange
from realmkit.arch.pas import GRANULE_SIZE, Gpi, Pas
from realmkit.arch.rmi import Rmi
from realmkit.machine.port import CpuContext, ExternalAbort, GranuleProtectionFault
from tests.isolation import code
from tests.isolation.kit import Guest, World
from tests.isolation.programs import DATA, checksum, secret

SECRET = secret("victim")
KINDS = ["rd", "starting table", "level 2 table", "level 3 table", "code", "data", "rec", "rec aux", "delegated"]
ELSEWHERE = ["root", "gpt", "secure", "rmm"]


@pytest.fixture
def victim() -> Guest:
    """A Realm that reports the checksum of its data, again and again."""
    loop = checksum(DATA)
    return World().realm([*loop, code.b(-len(loop))], {DATA: SECRET})


@pytest.fixture
def world(victim: Guest) -> World:
    return victim.world


def target(victim: Guest, kind: str) -> int:
    platform = victim.world.machine.platform
    match kind:
        case "delegated":
            return victim.world.delegated()
        case "root":
            return platform.gpt_root.base
        case "gpt":
            return platform.gpt.base
        case "secure":
            return platform.secure[0].base
        case "rmm":
            return platform.rmm.base
    return victim.granules()[kind]


class Untouched:
    """Everything that belongs to the victim keeps its contents, and the Realm sees its own data."""

    def __init__(self, victim: Guest, extra: int) -> None:
        self.victim = victim
        self.granules = [*victim.data.values(), *victim.tables.values(), *victim.granules().values(), extra]
        self.sum = victim.enter().gprs[0]

    def __enter__(self) -> None:
        self.digest = self.victim.world.digest(self.granules)

    def __exit__(self, *exc: object) -> None:
        if exc[0] is None:
            assert self.victim.world.digest(self.granules) == self.digest
            assert self.victim.enter(flags=1).gprs[0] == self.sum


@pytest.mark.parametrize("kind", KINDS + ELSEWHERE)
def test_the_python_host_takes_a_granule_protection_fault(victim: Guest, kind: str) -> None:
    world, pa = victim.world, target(victim, kind)
    bus = world.port.bus
    attempts: list[tuple[bool, Callable[[], object]]] = [
        (False, lambda: bus.read(Pas.NS, pa, 1)),
        (False, lambda: bus.read(Pas.NS, pa, GRANULE_SIZE)),
        (False, lambda: bus.read64(Pas.NS, pa + 8)),
        (True, lambda: bus.write(Pas.NS, pa + 5, b"host")),
        (True, lambda: bus.write64(Pas.NS, pa, 0)),
        (True, lambda: bus.zero(Pas.NS, pa, GRANULE_SIZE)),
    ]
    with Untouched(victim, pa):
        for write, attempt in attempts:
            with pytest.raises(GranuleProtectionFault) as caught:
                attempt()
            assert caught.value.write is write
            assert caught.value.pa & -GRANULE_SIZE == pa
            if kind in KINDS:
                assert caught.value.gpi is Gpi.REALM


@pytest.mark.parametrize("kind", KINDS + ELSEWHERE)
def test_a_dma_master_takes_a_granule_protection_fault(victim: Guest, kind: str) -> None:
    world, pa = victim.world, target(victim, kind)
    disk = world.machine.dma("disk", Pas.NS)
    with Untouched(victim, pa):
        with pytest.raises(GranuleProtectionFault):
            disk.read(pa, 64)
        with pytest.raises(GranuleProtectionFault):
            disk.write(pa, b"\xff" * GRANULE_SIZE)


def test_an_access_that_begins_in_the_host_s_own_memory_writes_none_of_it(victim: Guest, world: World) -> None:
    own = world.page(b"host")
    pa = world.delegated()
    assert pa == own + GRANULE_SIZE
    with Untouched(victim, own):
        for write in (world.write, world.machine.dma("disk", Pas.NS).write):
            with pytest.raises(GranuleProtectionFault):
                write(pa - 8, b"\xee" * 16)


@pytest.mark.parametrize("kind", KINDS + ELSEWHERE)
@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("load", [code.ldr(5, 1)]),
        ("store", [code.store(1, 1)]),
        ("byte store", [code.strb(1, 1)]),
        ("pair store", [code.stp(1, 1, 1)]),
        ("fetch", [code.blr(1)]),
    ],
)
def test_code_at_ns_el2_takes_an_abort(victim: Guest, kind: str, name: str, program: list[int]) -> None:
    world, pa = victim.world, target(victim, kind)
    with Untouched(victim, pa):
        run = world.run_at_el2([*code.mov(1, pa), *program])
        assert run.abort is not None
        assert run.abort.ec == (Ec.IABT_SAME if name == "fetch" else Ec.DABT_SAME)
        assert run.abort.fsc == FSC_GPF
        assert run.abort.write is name.endswith("store")
        assert run.abort.far == pa
        if name == "fetch":
            assert run.abort.elr == pa
        assert run.x[5] == 0


def test_the_abort_of_the_host_is_an_event(victim: Guest, world: World) -> None:
    pa = victim.data[DATA]
    with world.events() as seen:
        world.run_at_el2([*code.mov(1, pa), code.ldr(0, 1)])
    taken = [e for e in seen if isinstance(e, ExceptionTaken) and e.far == pa]
    assert [(e.world, e.source_el, e.target_el, e.esr & 0x3F) for e in taken] == [("NS", 2, 2, FSC_GPF)]
    assert not [e for e in seen if isinstance(e, GptChange | RttChange)]


def el2_tables(ttbr: int) -> Callable[[CpuContext], None]:
    """EL2 with its MMU on: 39-bit addresses in 4 KB granules."""

    def setup(context: CpuContext) -> None:
        context.write("MAIR_EL2", 0xFF)
        context.write("TCR_EL2", 5 << 16 | 25)
        context.write("TTBR0_EL2", ttbr)
        context.write("SCTLR_EL2", 1)

    return setup


def level1(world: World, **entries: int) -> int:
    """A level 1 table of the Host's that maps all DRAM with a block, with further entries ``e<n>``."""
    table = {2: 0x8000_0000 | 1 << 10 | 1, **{int(name[1:]): value for name, value in entries.items()}}
    content = b"".join(table.get(n, 0).to_bytes(8, "little") for n in range(512))
    return world.page(content)


@pytest.mark.parametrize("kind", ["data", "level 3 table", "rd"])
def test_the_host_s_own_translation_does_not_help(victim: Guest, kind: str) -> None:
    """A page table of the Host maps the granule at another address, read and write."""
    world, pa = victim.world, target(victim, kind)
    level3 = world.page((pa | 1 << 10 | 3).to_bytes(8, "little"))
    level2 = world.page((level3 | 3).to_bytes(8, "little"))
    table = level1(world, e4=level2 | 3)
    for program, write in ([code.ldr(0, 1)], False), ([code.store(0, 1)], True):
        with Untouched(victim, pa):
            run = world.run_at_el2([*code.mov(1, 4 << 30), *program], el2_tables(table))
            assert run.abort is not None
            assert (run.abort.ec, run.abort.fsc, run.abort.write) == (Ec.DABT_SAME, FSC_GPF, write)
            assert run.abort.far == 4 << 30


@pytest.mark.parametrize("level", [2, 3])
def test_the_host_s_table_walk_does_not_read_a_realm_s_table(victim: Guest, world: World, level: int) -> None:
    """The victim's own RTT in place of the Host's next-level table: its entries would be valid."""
    stolen = victim.tables[3, 0]
    if level == 3:
        stolen = world.page((stolen | 3).to_bytes(8, "little"))
    table = level1(world, e4=stolen | 3)
    with Untouched(victim, stolen):
        run = world.run_at_el2([*code.mov(1, 4 << 30), code.ldr(0, 1)], el2_tables(table))
        assert run.abort is not None
        assert (run.abort.ec, run.abort.fsc) == (Ec.DABT_SAME, FSC_GPF_WALK + level)


def test_hardware_update_of_a_descriptor_does_not_write_into_a_realm(victim: Guest, world: World) -> None:
    """TCR_EL2.HA: the walk would set the access flag in the victim's memory."""

    def setup(context: CpuContext) -> None:
        el2_tables(level1(world, e4=victim.data[DATA] | 3))(context)
        context.write("TCR_EL2", 5 << 16 | 1 << 21 | 1 << 22 | 25)

    with Untouched(victim, victim.data[DATA]):
        run = world.run_at_el2([*code.mov(1, 4 << 30), code.ldr(0, 1)], setup)
        assert run.abort is not None
        assert run.abort.fsc == FSC_GPF_WALK + 2


def test_an_address_translation_instruction_of_the_host_tells_nothing(victim: Guest, world: World) -> None:
    """AT S1E2R with the victim's table as the Host's."""
    at_s1e2r = code.sysinsn(1, 4, 7, 8, 0, 1)
    results = set()
    for stolen in (victim.tables[3, 0], victim.data[DATA], world.delegated()):
        setup = el2_tables(level1(world, e4=stolen | 3))
        program = [*code.mov(1, 4 << 30), at_s1e2r, code.ISB, code.mrs(5, "PAR_EL1")]
        results.add(world.run_at_el2(program, setup).x[5])
    assert len(results) == 1
    assert results.pop() & 1


@pytest.mark.parametrize("stage2", [False, True])
def test_a_plain_vm_takes_an_abort_as_well(victim: Guest, world: World, stage2: bool) -> None:
    """Code at NS-EL1: at the physical address, or where its hypervisor has mapped the granule."""
    pa = victim.data[DATA]
    where = 0x4000_0000 if stage2 else pa
    report = [code.mrs(21, "ESR_EL1"), code.mrs(22, "FAR_EL1"), code.HVC]
    vectors = world.page(code.pack(report).ljust(0x80, b"\0") * 16)
    image = world.page(code.pack([*code.mov(1, where), code.ldr(5, 1), code.HVC]))
    context = CpuContext(pc=image)
    context.write("HCR_EL2", 1 << 31 | stage2)
    if stage2:
        s2 = 0xF << 2 | 3 << 6 | 1 << 10
        level3 = world.page((pa | s2 | 3).to_bytes(8, "little"))
        level2 = world.page((level3 | 3).to_bytes(8, "little"))
        entries = {1: level2 | 3, 2: 0x8000_0000 | s2 | 1}
        level1 = world.page(b"".join(entries.get(n, 0).to_bytes(8, "little") for n in range(512)))
        context.write("VTTBR_EL2", 7 << 48 | level1)
        context.write("VTCR_EL2", 5 << 16 | 1 << 6 | 25)
    context.write("VBAR_EL1", vectors)
    with Untouched(victim, pa):
        world.port.enter(context)
        assert (context.x[21] >> 26, context.x[21] & 0x3F, context.x[22]) == (Ec.DABT_SAME, FSC_GPF, where)
        assert context.x[5] == 0


def test_a_granule_is_clean_on_its_way_in_and_out(world: World) -> None:
    pa = world.page(b"host")
    world.read(pa)
    world.machine.dma("disk", Pas.NS).read(pa, 8)
    dma = world.machine.dma("disk", Pas.NS)
    world.ok(Rmi.GRANULE_DELEGATE, pa)
    with pytest.raises(GranuleProtectionFault):
        world.read(pa)
    with pytest.raises(GranuleProtectionFault):
        dma.read(pa, 8)
    assert not any(world.chip(pa))
    world.ok(Rmi.GRANULE_UNDELEGATE, pa)
    assert world.read(pa, GRANULE_SIZE) == bytes(GRANULE_SIZE)
    world.write(pa, b"mine")
    assert dma.read(pa, 4) == b"mine"


def test_nothing_of_a_realm_comes_back_to_the_host(victim: Guest, world: World) -> None:
    victim.enter()
    granules = [*victim.data.values(), *victim.tables.values(), victim.rd, *victim.recs, *victim.aux]
    victim.destroy()
    assert not any(any(world.read(pa, GRANULE_SIZE)) for pa in granules)


def test_an_address_without_memory_is_an_external_abort_not_a_fault_of_protection(world: World) -> None:
    with pytest.raises(ExternalAbort):
        world.read(0x7000_0000)
