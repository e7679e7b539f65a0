"""A Realm tries to reach what is not its own: another Realm, the Host, the firmware, whatever a Host helps it to."""

import struct
from collections.abc import Callable

import pytest

from realmkit.arch.esr import FSC_GPF, FSC_GPF_WALK, ISS_DABT, Ec, exception_class
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.rmi import ENTER_INJECT_SEA, ExitReason, Rmi
from realmkit.machine.port import GranuleProtectionFault
from tests.isolation import code
from tests.isolation.kit import Guest, World, fault_ipa
from tests.isolation.programs import (
    DATA,
    SHARED,
    UNPROTECTED,
    WIDTH,
    ask,
    call,
    checksum,
    function,
    load,
    out,
    put,
    secret,
    word,
)

SECRET = secret("victim")
TABLE = 0x3000
"""IPA of an attacker's own translation table."""


@pytest.fixture
def victim() -> Guest:
    loop = checksum(DATA)
    return World().realm([*loop, code.b(-len(loop))], {DATA: SECRET})


@pytest.fixture
def world(victim: Guest) -> World:
    return victim.world


@pytest.fixture
def untouched(victim: Guest) -> Callable[[], None]:
    """Checks that the victim is as it was."""
    granules = [*victim.data.values(), *victim.tables.values(), *victim.granules().values()]
    sum_before = victim.enter().gprs[0]
    before = victim.world.digest(granules)

    def check() -> None:
        assert victim.world.digest(granules) == before
        assert victim.enter(flags=1).gprs[0] == sum_before

    return check


# ---- addresses ----


def test_the_same_address_is_another_page_in_each_realm(world: World, victim: Guest) -> None:
    other = world.realm([*load(DATA), *put(DATA, 7), *load(DATA)], {DATA: secret("other")})
    assert other.run().values == [word(secret("other")), 7]
    assert world.chip(victim.data[DATA]) == SECRET


@pytest.mark.parametrize("program", [load, lambda pa: put(pa, 1), call])
def test_a_physical_address_is_no_address_of_a_realm(
    world: World, victim: Guest, program: Callable[[int], list[int]], untouched: Callable[[], None]
) -> None:
    """The victim's PA, used as an IPA: RIPAS EMPTY there, so the attacker takes an external abort."""
    pa = victim.data[DATA]
    attacker = world.realm(program(pa))
    run = attacker.run()
    assert run.abort is not None
    assert run.abort.external
    assert run.abort.far == pa
    untouched()


def test_the_host_can_not_be_made_to_fill_an_empty_address_behind_the_realms_back(world: World, victim: Guest) -> None:
    """A colluding Host may put a page of its own there; what it puts there is wiped and the attacker's."""
    pa = victim.data[DATA]
    attacker = world.realm(load(pa))
    label = world.refused(Rmi.DATA_CREATE_UNKNOWN, attacker.rd, pa, 0x5000)
    assert label == "data_state"
    assert world.refused(Rmi.DATA_CREATE, attacker.rd, pa, 0x5000, world.page(b"x"), 0) == "data_state"


@pytest.mark.parametrize("bit", [WIDTH, 40, 47])
def test_an_address_outside_the_ipa_space_is_an_address_size_fault(world: World, bit: int) -> None:
    run = world.realm(load(1 << bit)).run()
    assert run.abort is not None
    assert (run.abort.ec, run.abort.fsc, run.abort.far) == (Ec.DABT_SAME, 0x00, 1 << bit)


def test_a_fetch_from_memory_of_the_host_is_an_external_abort(world: World) -> None:
    """The Host shares a page with code in it: no Realm executes what its Host can change."""
    attacker = world.realm([*call(SHARED), out(0)])
    attacker.share(world.page(function(0x41)))
    run = attacker.run()
    assert run.values == []
    assert run.abort is not None
    assert (run.abort.ec, run.abort.external, run.abort.elr) == (Ec.IABT_SAME, True, SHARED)


@pytest.mark.parametrize("program", [load(SHARED), put(SHARED, 5)])
def test_unmapped_memory_of_the_host_is_the_host_s_to_serve(world: World, program: list[int]) -> None:
    """Outside its mappings a Realm reaches nothing: the Host is asked, and may refuse."""
    attacker = world.realm(program)
    record = attacker.run().exit
    assert record is not None
    assert (record.exit_reason, exception_class(record.esr), fault_ipa(record)) == (
        ExitReason.SYNC,
        Ec.DABT_LOWER,
        SHARED,
    )
    run = attacker.run(flags=ENTER_INJECT_SEA)
    assert run.abort is not None
    assert run.abort.external
    assert run.abort.far == SHARED


def test_a_mapping_gives_one_page_and_its_permissions(world: World) -> None:
    page, beside = world.page(b"shared page....."), world.page(b"private to the Host")
    attacker = world.realm([*load(SHARED), *put(SHARED, 5), *load(SHARED + GRANULE_SIZE)])
    attacker.share(page, attributes=6 << 2 | 1 << 6)
    run = attacker.run()
    assert run.values == [word(b"shared p")]
    assert run.exit is not None
    assert run.exit.esr & 0x3F == 0x0F
    assert ISS_DABT.get(run.exit.esr, "WnR")
    assert world.read(page) == b"shared p"
    again = attacker.run(flags=1)
    assert again.values == []
    assert again.exit is not None
    assert fault_ipa(again.exit) == SHARED + GRANULE_SIZE
    assert world.read(beside, 19) == b"private to the Host"


# ---- a Host that helps ----


def places(victim: Guest) -> dict[str, int]:
    platform = victim.world.machine.platform
    return {
        **victim.granules(),
        "delegated": victim.world.delegated(),
        "root": platform.gpt_root.base,
        "gpt": platform.gpt.base,
        "secure": platform.secure[0].base,
        "rmm": platform.rmm.base,
    }


@pytest.mark.parametrize("program", [load(SHARED), put(SHARED, 1), [*code.mov(1, SHARED), code.stp(1, 1, 1)]])
@pytest.mark.parametrize("kind", ["data", "rd", "level 3 table", "rec", "delegated", "root", "gpt", "secure", "rmm"])
def test_a_host_maps_foreign_memory_into_its_accomplice(
    victim: Guest, kind: str, program: list[int], untouched: Callable[[], None]
) -> None:
    """MAP_UNPROTECTED does not look at its target: the granule protection check does."""
    world, pa = victim.world, places(victim)[kind]
    attacker = world.realm(program)
    attacker.share(pa)
    before = world.chip(pa)
    run = attacker.run()
    assert run.values == []
    assert run.exit is None
    assert run.abort is not None
    assert run.abort.far == SHARED
    assert run.abort.fsc in (FSC_GPF, 0x10)
    assert world.chip(pa) == before
    untouched()


def test_a_page_that_is_delegated_while_it_is_shared(world: World) -> None:
    """The Realm has used the mapping, so it is cached; then the Host gives the page to the Realm world."""
    page = world.page(b"12345678")
    attacker = world.realm([*load(SHARED), ask(2), *load(SHARED)])
    attacker.share(page)
    run = attacker.run()
    assert run.values == [word(b"12345678")]
    world.ok(Rmi.GRANULE_DELEGATE, page)
    run = attacker.run(0)
    assert run.values == []
    assert run.abort is not None
    assert run.abort.fsc in (FSC_GPF, 0x10)


# ---- translation tables of the Realm ----


def own_mmu(ttbr1: int = 0) -> list[int]:
    """Stage 1 on: blocks map the Protected gigabyte 0 and the Unprotected gigabyte 4 as they are, TTBR1 is free."""
    return [
        *code.write_sysreg("MAIR_EL1", 0x00FF),
        *code.write_sysreg("TCR_EL1", 5 << 32 | 2 << 30 | 25 << 16 | 25),
        *code.write_sysreg("TTBR0_EL1", TABLE),
        *code.write_sysreg("TTBR1_EL1", ttbr1),
        *code.write_sysreg("SCTLR_EL1", 0x30D0_0801),
        code.ISB,
    ]


def own_table(**entries: int) -> dict[int, bytes]:
    """The attacker's level 1 table, with further entries ``e<n>``."""
    table = bytearray(GRANULE_SIZE)
    struct.pack_into("<Q", table, 0, 1 << 10 | 1)
    struct.pack_into("<Q", table, 8 * (UNPROTECTED >> 30), UNPROTECTED | 1 << 10 | 1 << 2 | 1)
    for name, value in entries.items():
        struct.pack_into("<Q", table, 8 * int(name[1:]), value)
    return {TABLE: bytes(table)}


def test_stage_1_on_changes_nothing(world: World, victim: Guest, untouched: Callable[[], None]) -> None:
    """An own mapping to the victim's physical address leads to the same IPA, which is EMPTY."""
    pa = victim.data[DATA]
    attacker = world.realm(
        [*own_mmu(), *load(8 << 30 | pa & (1 << 30) - 1)], own_table(e8=pa & -(1 << 30) | 1 << 10 | 1)
    )
    run = attacker.run()
    assert run.values == []
    assert run.abort is not None
    assert run.abort.external
    untouched()


@pytest.mark.parametrize("where", ["protected", "shared"])
def test_a_walk_of_the_realm_does_not_read_foreign_tables(
    world: World, victim: Guest, where: str, untouched: Callable[[], None]
) -> None:
    """TTBR1 points at the victim's RTT: by its physical address, or where the Host has mapped it."""
    table = victim.tables[3, 0]
    attacker = world.realm(
        [*own_mmu(SHARED if where == "shared" else table), *load(0xFFFF_FF80_0000_0000)], own_table()
    )
    if where == "shared":
        attacker.share(table)
    run = attacker.run()
    assert run.values == []
    assert run.abort is not None
    assert run.abort.fsc in (0x10, 0x15, FSC_GPF_WALK + 1)
    untouched()


def test_hardware_management_of_the_access_flag_does_not_write_foreign_memory(
    world: World, victim: Guest, untouched: Callable[[], None]
) -> None:
    pa = victim.data[DATA]
    mmu = own_mmu(SHARED)
    hardware = code.write_sysreg("TCR_EL1", 1 << 39 | 1 << 40 | 5 << 32 | 2 << 30 | 25 << 16 | 25)
    attacker = world.realm([*mmu, *hardware, code.ISB, *put(0xFFFF_FF80_0000_0000, 1)], own_table())
    attacker.share(pa)
    run = attacker.run()
    assert run.abort is not None
    untouched()


def test_address_translation_instructions_tell_nothing(world: World, victim: Guest) -> None:
    """AT S1E1R walks with TTBR1 at tables of others: the answer must not depend on what is there."""
    at_s1e1r = code.sysinsn(1, 0, 7, 8, 0, 1)
    ask_at = [*code.mov(1, 0xFFFF_FF80_0000_0000), at_s1e1r, code.ISB, code.mrs(0, "PAR_EL1"), out(0)]
    answers = set()
    for pa in (victim.tables[3, 0], victim.tables[2, 0], victim.data[DATA], world.delegated(), world.page(b"\xff" * 8)):
        (par,) = world.realm([*own_mmu(pa), *ask_at], own_table()).run().values
        answers.add(par)
    assert len(answers) == 1
    assert answers.pop() & 1


def test_address_translation_by_code_that_was_written_while_it_ran(world: World, victim: Guest) -> None:
    """The instruction appears through another mapping, without maintenance, where other code has been executed."""
    target, alias = 0x6000, (8 << 30) + 0x6000
    at_s1e1r = code.sysinsn(1, 0, 7, 8, 0, 1)
    new = at_s1e1r | code.RET << 32
    answers = set()
    for pa in (victim.tables[3, 0], victim.tables[2, 0], victim.data[DATA], world.delegated(), world.page(b"\xff" * 8)):
        change = [*code.mov(3, alias), *code.mov(4, new), code.store(4, 3), code.DSB, code.ISB]
        again = [*code.mov(1, 0xFFFF_FF80_0000_0000), *code.mov(2, target), code.blr(2), code.mrs(0, "PAR_EL1"), out(0)]
        pages = {**own_table(e8=1 << 10 | 1), target: code.pack([code.NOP, code.RET])}
        run = world.realm([*own_mmu(pa), *call(target), *change, *again], pages).run()
        assert run.abort is None
        answers.add(run.values[-1])
    assert len(answers) == 1


# ---- memory that others share ----


def test_two_realms_share_what_the_host_maps_to_both_and_nothing_else(world: World) -> None:
    page = world.page(bytes(GRANULE_SIZE))
    writer = world.realm(put(SHARED + 8, 0x77))
    reader = world.realm([*load(SHARED + 8), *load(SHARED + GRANULE_SIZE)])
    writer.share(page)
    reader.share(page)
    writer.run()
    run = reader.run()
    assert run.values == [0x77]
    assert run.exit is not None


def test_a_dma_master_of_the_realm_world_stays_in_its_own_space(world: World, victim: Guest) -> None:
    """A device assigned to the Realm PAS reaches no Root or Secure memory."""
    device = world.machine.dma("accelerator", Pas.REALM)
    platform = world.machine.platform
    for pa in (platform.gpt_root.base, platform.gpt.base, platform.secure[0].base, world.page(b"host")):
        with pytest.raises(GranuleProtectionFault):
            device.read(pa, 8)
