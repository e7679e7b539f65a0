"""Two PEs, maintenance, register files and hostile completions (attacks 12, 16, 18, 30, 33, 36-39), with real code."""

from collections.abc import Callable

import pytest
from greenlet import greenlet

from realmkit.arch import psci
from realmkit.arch.esr import FSC_TRANSLATION, Ec, exception_class
from realmkit.arch.events import Measured
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.psci import PsciStatus
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, ENTER_EMUL_MMIO, ExitReason, RealmParams, RecEnter, Rmi
from realmkit.arch.rsi import HostCall, Rsi, RsiStatus
from realmkit.arch.smccc import signed, unsigned
from realmkit.host.rmi import RmiClient
from tests.isolation import code
from tests.isolation.kit import World, fault_ipa
from tests.isolation.programs import DATA, WIDTH, ask, load, out, put, secret, word

TABLE, LEVEL2, LEVEL3, OTHER = 0x3000, 0x4000, 0x5000, 0x6000
MANY = (1 << 64) - 1


def second_host(world: World, action: Callable[[RmiClient], None]) -> None:
    """Let a Python Host on PE 1 do something the next time PE 0 is busy."""
    pe = world.machine.pes[1]
    pe.boot(lambda: world.stack.monitor.warm_boot(pe.monitor_port, pe.realm_port))
    pe.cpu.time = world.port.now() + 100_000

    def host() -> None:
        action(RmiClient(world.stack.host_port(1)))
        pe.powered = False
        world.machine.scheduler.suspend(pe)

    pe.host_greenlet = greenlet(host)
    pe.powered = True


# ---- two PEs ----


def test_a_page_is_taken_from_another_pe_while_the_realm_writes_it() -> None:
    """The loop on PE 0 has the page in its TLB; the next store after the TLBI faults."""
    world = World(pes=2)
    guest = world.realm([*code.mov(1, DATA), *code.mov(2, 0), code.store(2, 1), code.add(2, 2, 1), code.b(-2)])
    taken: list[int] = []

    def take(rmi: RmiClient) -> None:
        assert guest.rd
        result = rmi.call(Rmi.DATA_DESTROY, guest.rd, DATA)
        assert result.success
        assert rmi.call(Rmi.GRANULE_UNDELEGATE, result.x1).success
        taken.append(result.x1)

    second_host(world, take)
    record = guest.enter()
    assert taken == [guest.data[DATA]]
    assert record.exit_reason == ExitReason.SYNC
    assert (exception_class(record.esr), record.esr & 0x3F) == (Ec.DABT_LOWER, FSC_TRANSLATION + 3)
    assert fault_ipa(record) == DATA
    assert world.read(taken[0], GRANULE_SIZE) == bytes(GRANULE_SIZE)


def test_a_rec_that_runs_is_neither_entered_nor_destroyed_by_another_pe() -> None:
    world = World(pes=2)
    guest = world.realm([code.STAY])
    labels: list[str | None] = []

    def attack(rmi: RmiClient) -> None:
        for command, arguments in (
            (Rmi.REC_ENTER, (guest.recs[0], world.page())),
            (Rmi.REC_DESTROY, (guest.recs[0],)),
            (Rmi.REALM_DESTROY, (guest.rd,)),
        ):
            assert not rmi.call(command, *arguments).success
            labels.append(rmi.port.refusal)

    second_host(world, attack)
    assert guest.enter().exit_reason == ExitReason.IRQ
    assert labels == ["rec_state", "rec_state", "realm_live"]


def test_the_run_page_is_taken_while_the_realm_runs() -> None:
    """REC_ENTER fails when the record cannot be written; the REC can be entered again."""
    world = World(pes=2)
    guest = world.realm([code.STAY])
    run = guest.run_page
    second_host(world, lambda rmi: rmi.granule_delegate(run))
    world.port.write("CNTHP_CVAL_EL2", world.port.now() + 1_000_000)
    world.port.write("CNTHP_CTL_EL2", 1)
    assert world.refused(Rmi.REC_ENTER, guest.recs[0], run) == "run_pas"
    world.acknowledge()
    assert not any(world.chip(run))
    guest.run_page = world.page()
    assert guest.enter().exit_reason == ExitReason.IRQ


@pytest.mark.parametrize("alternate", [False, True])
def test_commands_of_two_pes_do_not_mix(alternate: bool) -> None:
    """Attacks 12 and 30: the RIM of a Realm that two PEs build together is that of its steps, one after another."""
    world = World(pes=2)
    clients = [RmiClient(world.stack.host_port(pe)) for pe in (0, 1 if alternate else 0)]
    rd, rtt = world.delegated(), world.delegated()
    params = RealmParams(0, WIDTH, 0, 1, 1, 0, 0, bytes(64), 1, rtt, 1, 1)
    world.ok(Rmi.REALM_CREATE, rd, world.page(params.pack()))
    with world.events() as seen:
        turn = 0
        for level in (2, 3):
            assert clients[level % 2].call(Rmi.RTT_CREATE, rd, world.delegated(), 0, level).success
        for n in range(16):
            base = n * 0x1000
            source, granule = world.page(secret(str(n))), world.delegated()
            for command, arguments in (
                (Rmi.RTT_INIT_RIPAS, (rd, base, base + 0x1000)),
                (Rmi.DATA_CREATE, (rd, granule, base, source, DATA_MEASURE_CONTENT)),
            ):
                turn += 1
                assert clients[turn % 2].call(command, *arguments).success
    rims = [e.value for e in seen if isinstance(e, Measured)]
    assert len(rims) == 32
    reference = World()
    again = reference.delegated(), reference.delegated()
    params.rtt_base = again[1]
    reference.ok(Rmi.REALM_CREATE, again[0], reference.page(params.pack()))
    for level in (2, 3):
        reference.ok(Rmi.RTT_CREATE, again[0], reference.delegated(), 0, level)
    with reference.events() as expected:
        for n in range(16):
            base = n * 0x1000
            reference.ok(Rmi.RTT_INIT_RIPAS, again[0], base, base + 0x1000)
            source, granule = reference.page(secret(str(n))), reference.delegated()
            reference.ok(Rmi.DATA_CREATE, again[0], granule, base, source, DATA_MEASURE_CONTENT)
    assert [e.value for e in expected if isinstance(e, Measured)] == rims


# ---- maintenance by the Realm ----


def tables() -> dict[int, bytes]:
    """Stage 1 tables: RAM as it is by pages, and VA 0x10_0000 at the page DATA."""
    identity = [n << 12 | 1 << 10 | 3 for n in range(512)]
    identity[0x100] = DATA | 1 << 10 | 3
    level2 = [LEVEL3 | 3]
    level1 = [LEVEL2 | 3, 0, 0, 0, 1 << 32 | 1 << 10 | 1 << 2 | 1]
    return {
        ipa: b"".join(e.to_bytes(8, "little") for e in t)
        for ipa, t in ((TABLE, level1), (LEVEL2, level2), (LEVEL3, identity))
    }


MMU_ON = [
    *code.write_sysreg("MAIR_EL1", 0x00FF),
    *code.write_sysreg("TCR_EL1", 5 << 32 | 1 << 23 | 25),
    *code.write_sysreg("TTBR0_EL1", TABLE),
    *code.write_sysreg("SCTLR_EL1", 0x30D0_0801),
    code.ISB,
]


def test_a_local_tlbi_reaches_the_pe_that_the_rec_ran_on_before() -> None:
    """Attack 18 (HCR_EL2.FB): a VCPU that changes PEs needs no broadcast TLBI of its own."""
    world = World(pes=2)
    change = [*put(LEVEL3 + 8 * 0x100, OTHER | 1 << 10 | 3), code.DSB, code.TLBI_VMALLE1, code.DSB, code.ISB]
    program = [*MMU_ON, *load(0x10_0000), ask(3), *change, ask(3), *load(0x10_0000)]
    guest = world.realm(program, {**tables(), DATA: secret("old"), OTHER: secret("new")})
    assert guest.run().values == [word(secret("old"))]
    world.port.bus.write(Pas.NS, guest.run_page, RecEnter(ENTER_EMUL_MMIO, (0,) * 31, 0, (0,) * 16).pack())
    pes = world.machine.pes
    pes[1].boot(lambda: world.stack.monitor.warm_boot(pes[1].monitor_port, pes[1].realm_port))
    pes[0].powered, pes[1].powered = False, True
    assert RmiClient(world.stack.host_port(1)).call(Rmi.REC_ENTER, guest.recs[0], guest.run_page).success
    pes[0].powered, pes[1].powered = True, False
    assert guest.run(0).values == [word(secret("new"))]


def test_a_tlbi_of_one_vcpu_reaches_the_others() -> None:
    """REC 1 changes the table that REC 0 has cached, and broadcasts."""
    tlbi_vmalle1is = code.sysinsn(1, 0, 8, 3, 0)
    change = [*put(LEVEL3 + 8 * 0x100, OTHER | 1 << 10 | 3), code.DSB, tlbi_vmalle1is, code.DSB, code.ISB]
    reader = [*load(0x10_0000), ask(3), *load(0x10_0000)]
    program = [code.add(25, 0, 0), *MMU_ON, code.cbnz(25, len(reader) + 2), *reader, code.STAY, *change, ask(3)]
    world = World()
    guest = world.realm(program, {**tables(), DATA: secret("old"), OTHER: secret("new")}, recs=2)
    assert guest.enter().gprs[0] == word(secret("old"))
    guest.enter(ENTER_EMUL_MMIO)
    assert guest.enter(rec=1).exit_reason == ExitReason.SYNC
    assert guest.enter(ENTER_EMUL_MMIO).gprs[0] == word(secret("new"))


# ---- register files ----

FP_ON = [*code.write_sysreg("CPACR_EL1", 3 << 20), code.ISB]


def fill(value: int) -> list[int]:
    """All of V0, V15 and V31 from a constant."""
    return [*code.mov(0, value), *(0x4E08_0C00 | n for n in (0, 15, 31))]


SHOW = [w for n in (0, 15, 31) for w in (0x4E18_3C00 | n << 5, out(0), 0x4E08_3C00 | n << 5, out(0))]
"""Upper and lower half of each."""


def test_simd_registers_survive_exits_tokens_and_other_realms() -> None:
    """Attack 36: the RMM signs a token between, another Realm overwrites the PE's registers."""
    world = World()
    token = code.smc(Rsi.ATTESTATION_TOKEN_INIT, *range(8))
    more = code.smc(Rsi.ATTESTATION_TOKEN_CONTINUE, DATA, 0, GRANULE_SIZE)
    guest = world.realm([*FP_ON, *fill(MANY), ask(3), *token, *more, ask(3), *SHOW])
    other = world.realm([*FP_ON, *SHOW, *fill(0x1234), ask(3), *SHOW])
    assert guest.run().abort is None
    assert other.run().values == [0] * 6
    assert guest.run(0).abort is None
    assert other.run(0).values == [0x1234] * 6
    assert guest.run(0).values == [MANY] * 6


def test_the_affinity_that_a_realm_reads_is_its_own() -> None:
    """Attack 37: VMPIDR of each REC, not the PE's."""
    guest = World().realm([code.mrs(1, "MPIDR_EL1"), out(1)], recs=2)
    for rec in (0, 1):
        assert guest.enter(rec=rec).gprs[0] == rec | 1 << 31


def test_the_sve_hint_in_a_function_identifier() -> None:
    """Attack 37."""
    run = World().realm([*code.smc(Rsi.VERSION | 1 << 16, 1 << 16), out(0), out(1)]).run()
    assert run.values == [RsiStatus.SUCCESS, 1 << 16]


# ---- completions ----


def test_psci_complete_takes_nothing_from_the_host_but_the_truth() -> None:
    """Attack 33: every wrong argument is refused, and the request is still there."""
    world = World()
    program = [code.add(25, 0, 0), code.cbnz(25, 8), *code.smc(psci.CPU_ON, 1, 0, 0x77), out(0)]
    guest = world.realm(program, recs=2)
    record = guest.enter()
    assert (record.exit_reason, record.gprs[0]) == (ExitReason.PSCI, psci.CPU_ON)
    caller, target = guest.recs
    stranger = world.realm([code.STAY]).recs[0]
    page = world.page()
    for arguments in (
        (caller, caller, 0),
        (target, caller, 0),
        (caller, stranger, 0),
        (stranger, target, 0),
        (caller, guest.rd, 0),
        (caller, page, 0),
        (caller + 8, target, 0),
        (caller, MANY, 0),
        *((caller, target, unsigned(status)) for status in (-1, -2, -9, 1, 1 << 40, MANY)),
    ):
        assert world.refused(Rmi.PSCI_COMPLETE, *arguments)
        assert world.refused(Rmi.REC_ENTER, caller, guest.run_page) == "rec_psci"
    world.ok(Rmi.PSCI_COMPLETE, caller, target, PsciStatus.SUCCESS)
    assert signed(guest.enter().gprs[0]) == PsciStatus.ALREADY_ON


def test_a_host_call_leaves_for_the_host_and_comes_back() -> None:
    """Attack 39."""
    world = World()
    program = [*code.smc(Rsi.HOST_CALL, DATA), out(0), *load(DATA + 8)]
    guest = world.realm(program, {DATA: HostCall(7, (1,) * 31).pack()})
    record = guest.run().exit
    assert record is not None
    assert (record.exit_reason, record.imm, record.gprs) == (ExitReason.HOST_CALL, 7, (1,) * 31)
    record = guest.enter(0, 0xABCD)
    assert record.gprs[0] == RsiStatus.SUCCESS
    assert guest.enter(ENTER_EMUL_MMIO).gprs[0] == 0xABCD


def test_an_undefined_instruction_is_where_it_is() -> None:
    """Attack 39: HVC of a Realm; PC of the exception is the HVC itself."""
    run = World().realm([code.NOP, code.HVC]).run()
    assert run.abort is not None
    assert run.abort.ec == Ec.UNKNOWN
    reference = World().realm([code.NOP, 0x0000_0000]).run()
    assert reference.abort is not None
    assert run.abort.elr == reference.abort.elr


def test_set_way_maintenance_of_a_realm_touches_nobody() -> None:
    """Attack 39: DC ISW, CSW and CISW."""
    words = [code.sysinsn(1, 0, 7, crm, 2, 1) for crm in (6, 10, 14)]
    world = World()
    victim = world.realm([code.STAY], {DATA: secret("a")})
    assert world.realm([*code.mov(1, 0), *words, *code.mov(0, 5), out(0)]).run().values == [5]
    assert world.chip(victim.data[DATA]) == secret("a")
