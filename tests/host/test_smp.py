"""Several VCPUs: PSCI, SGIs, timers and device interrupts, as Realms and as plain VMs."""

import pytest

from realmkit.arch import psci
from realmkit.arch.psci import PsciStatus
from realmkit.arch.smccc import unsigned
from realmkit.host.hypervisor import SHARED_SLICE, Outcome
from realmkit.host.vmm import layout
from tests.host.code import Code, Cond
from tests.host.kit import ENTRY, IO, IRQ, MAIN, PROBE, UNPROTECTED, VECTORS, Guest, World, off, program

KINDS = pytest.mark.parametrize("kind", ["realm", "vm"])
_SGI_FRAME = 0x1_0000


@pytest.fixture
def world() -> World:
    return World()


def alias(kind: str) -> int:
    return UNPROTECTED if kind == "realm" else 0


def mpidr(index: int) -> int:
    return index & 15 | index >> 4 << 8


def make(world: World, main: Code, kind: str, vcpus: int = 1, irq: Code | None = None) -> Guest:
    code = program(main, realm=kind == "realm", irq=irq)
    return world.realm(code, vcpus=vcpus) if kind == "realm" else world.vm(code, vcpus=vcpus)


def at(main: Code, label: str, kind: str, irq: Code | None = None) -> int:
    """Address of a label of ``main`` in the finished program."""
    empty = len(program(Code(), realm=kind == "realm", irq=irq).bytes()) - len(off(Code()).bytes())
    return ENTRY + empty + main._labels[label] * 4


def with_secondary(kind: str, first: Code, secondary: Code) -> Code:
    """``first`` on VCPU 0, ``secondary`` at label ``secondary``, which must not return."""
    return Code().word(*_words(first)).b("end").label("secondary").word(*_words(secondary)).label("end")


def _words(code: Code) -> list[int]:
    data = code.bytes()
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]


def cpu_on(code: Code, kind: str, target: int, entry: int, context: int = 0) -> Code:
    return code.call(psci.CPU_ON, mpidr(target), entry, context).store(0, IO)


def secondary_body(kind: str) -> Code:
    """Reports X0 and goes off."""
    return Code().mov(IO, alias(kind) | PROBE).store(0, IO, 8).mov(0, psci.CPU_OFF).smc()


@KINDS
def test_on_affinity_and_off(world: World, kind: str) -> None:
    def first(entry: int) -> Code:
        main = Code()
        main.call(psci.AFFINITY_INFO, 1, 0).store(0, IO)
        cpu_on(main, kind, 1, entry, 0x55)
        main.label("wait").call(psci.AFFINITY_INFO, 1, 0).cbz(0, "wait").store(0, IO)
        cpu_on(main, kind, 0, entry)
        main.call(psci.CPU_ON, 0x77, entry, 0).store(0, IO)
        return main

    probe = with_secondary(kind, first(ENTRY), secondary_body(kind))
    entry = at(probe, "secondary", kind)
    guest = make(world, with_secondary(kind, first(entry), secondary_body(kind)), kind, vcpus=2)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    reported = [value for offset, _, value in guest.probe.writes if offset == 0]
    assert reported == [
        PsciStatus.OFF,
        PsciStatus.SUCCESS,
        PsciStatus.OFF,
        unsigned(PsciStatus.ALREADY_ON),
        unsigned(PsciStatus.INVALID_PARAMETERS),
    ]
    assert [value for offset, _, value in guest.probe.writes if offset == 8] == [0x55]
    world.destroy(guest)
    world.assert_clean()


@KINDS
def test_a_vcpu_can_go_off_and_on_again(world: World, kind: str) -> None:
    def first(entry: int) -> Code:
        main = Code()
        for n in range(3):
            cpu_on(main, kind, 1, entry, n)
            main.label(f"wait{n}").call(psci.AFFINITY_INFO, 1, 0).cbz(0, f"wait{n}")
        return main

    entry = at(with_secondary(kind, first(ENTRY), secondary_body(kind)), "secondary", kind)
    guest = make(world, with_secondary(kind, first(entry), secondary_body(kind)), kind, vcpus=2)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert [value for offset, _, value in guest.probe.writes if offset == 8] == [0, 1, 2]


@KINDS
@pytest.mark.parametrize("vcpus", [64])
def test_many_vcpus(world: World, kind: str, vcpus: int) -> None:
    def first(entry: int) -> Code:
        main = Code()
        for n in range(1, vcpus):
            main.call(psci.CPU_ON, mpidr(n), entry, n)
        for n in range(1, vcpus):
            main.label(f"w{n}").call(psci.AFFINITY_INFO, mpidr(n), 0).cbz(0, f"w{n}")
        return main

    entry = at(with_secondary(kind, first(1 << 31), secondary_body(kind)), "secondary", kind)
    code = with_secondary(kind, first(entry), secondary_body(kind))
    assert at(code, "secondary", kind) == entry
    guest = make(world, code, kind, vcpus=vcpus)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert sorted(guest.values) == list(range(1, vcpus))
    world.destroy(guest)
    world.assert_clean()


@KINDS
def test_all_off_is_stuck(world: World, kind: str) -> None:
    guest = make(world, Code().mov(0, psci.CPU_OFF).smc(), kind)
    result = world.run(guest)
    assert result.outcome is Outcome.STUCK
    assert "off" in result.reason


@KINDS
def test_reset(world: World, kind: str) -> None:
    guest = make(world, Code().mov(0, psci.SYSTEM_RESET).smc(), kind)
    assert world.run(guest).outcome is Outcome.RESET


@KINDS
def test_psci_discovery(world: World, kind: str) -> None:
    main = Code().call(psci.VERSION).store(0, IO)
    for fid in (psci.CPU_ON, psci.SYSTEM_RESET, 0x8000_0000, 0xC400_0012):
        main.call(psci.FEATURES, fid).store(0, IO)
    main.call(0x8000_0000).store(0, IO).call(psci.MIGRATE_INFO_TYPE).store(0, IO).call(0x8600_FF01).store(0, IO)
    guest = make(world, main, kind)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    minus = unsigned(-1)
    assert guest.values == [0x1_0001, 0, 0, 0, minus, 0x1_0002, minus, minus]


# ---- interrupts ----


def gic_on(code: Code, kind: str, vcpus: int = 1, frame: int = 0) -> Code:
    """GIC, Group 1, SGIs, PPIs and the UART's SPI of a VCPU, priority mask open, IRQs not masked."""
    gicd, gicr = alias(kind) | layout.GICD_BASE, (alias(kind) | layout.GICD_BASE) - layout.GICR_SIZE * (vcpus - frame)
    code.mov(1, gicd).mov(2, 0b10).store(2, 1, 0, 4).mov(2, 0xFFFF_FFFF)
    code.store(2, 1, 0x84, 4).store(2, 1, 0x104, 4)
    code.mov(1, gicr + _SGI_FRAME).store(2, 1, 0x80, 4).store(2, 1, 0x100, 4)
    code.mov(2, 0xF0).msr("ICC_PMR_EL1", 2).mov(2, 1).msr("ICC_IGRPEN1_EL1", 2).isb()
    return code.unmask_irq()


def handler(stop_timer: bool = False) -> Code:
    """Acknowledge into X27, report, end."""
    code = Code().mrs(27, "ICC_IAR1_EL1").store(27, IO)
    if stop_timer:
        code.mov(28, 0).msr("CNTV_CTL_EL0", 28).msr("CNTP_CTL_EL0", 28).isb()
    return code.msr("ICC_EOIR1_EL1", 27)


@KINDS
@pytest.mark.parametrize(("timer", "intid"), [("CNTV", 27), ("CNTP", 30)])
@pytest.mark.parametrize("idle", [True, False])
def test_timer_interrupt(world: World, kind: str, timer: str, intid: int, idle: bool) -> None:
    main = gic_on(Code().mov(27, 0), kind).mov(1, 50_000).msr(f"{timer}_TVAL_EL0", 1)
    main.mov(1, 1).msr(f"{timer}_CTL_EL0", 1).isb().label("wait")
    if idle:
        main.wfi()
    main.cbz(27, "wait")
    guest = make(world, main, kind, irq=handler(stop_timer=True))
    assert world.run(guest, 10_000_000).outcome is Outcome.POWERED_OFF
    assert guest.values == [intid]


@KINDS
def test_a_periodic_timer_never_misses(world: World, kind: str) -> None:
    """The handler sets the next deadline itself, without any exit that would tell the Host."""
    irq = Code().mrs(27, "ICC_IAR1_EL1").add(26, 26, 1).mov(28, 20_000).msr("CNTV_TVAL_EL0", 28).isb()
    irq.msr("ICC_EOIR1_EL1", 27)
    main = gic_on(Code().mov(26, 0), kind).mov(1, 20_000).msr("CNTV_TVAL_EL0", 1).mrs(3, "CNTVCT_EL0")
    main.mov(1, 1).msr("CNTV_CTL_EL0", 1).isb().mov(2, 50).label("wait").cmp(26, 2).b_if(Cond.LO, "wait")
    main.mrs(4, "CNTVCT_EL0").store(3, IO).store(4, IO)
    guest = make(world, main, kind, irq=irq)
    assert world.run(guest, 50_000_000).outcome is Outcome.POWERED_OFF
    begin, end = guest.values
    assert 50 * 20_000 <= end - begin < 50 * 20_000 * 1.5


@KINDS
def test_sgi_to_itself_and_to_another(world: World, kind: str) -> None:
    irq = Code().mrs(27, "ICC_IAR1_EL1").store(27, IO, 16).msr("ICC_EOIR1_EL1", 27)

    def build(entry: int) -> Code:
        first = gic_on(Code().mov(27, 0), kind, 2, 0)
        first.mov(1, 5 << 24 | 0b01).msr("ICC_SGI1R_EL1", 1).isb().label("own").cbz(27, "own")
        cpu_on(first, kind, 1, entry)
        first.mov(1, 6 << 24 | 0b10).msr("ICC_SGI1R_EL1", 1)
        first.label("wait").call(psci.AFFINITY_INFO, 1, 0).cbz(0, "wait")
        second = Code().mov(IO, alias(kind) | PROBE).mov(9, ENTRY + VECTORS).msr("VBAR_EL1", 9).isb().mov(27, 0)
        # The interrupt may come at any moment from the unmasking on: it must not slip in between look and WFI.
        gic_on(second, kind, 2, 1).label("sleep").mask_irq().cbnz(27, "awake").wfi().unmask_irq().b("sleep")
        second.label("awake").mov(0, psci.CPU_OFF).smc()
        return with_secondary(kind, first, second)

    entry = at(build(ENTRY), "secondary", kind, irq)
    guest = make(world, build(entry), kind, vcpus=2, irq=irq)
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert [value for offset, _, value in guest.probe.writes if offset == 16] == [5, 6]
    assert IRQ < MAIN


@KINDS
def test_uart_receive_interrupt(world: World, kind: str) -> None:
    uart = alias(kind) | layout.UART_BASE
    irq = Code().mrs(27, "ICC_IAR1_EL1").store(27, IO).mov(28, uart).load(26, 28, 0, 4).store(26, IO)
    irq.msr("ICC_EOIR1_EL1", 27)
    main = gic_on(Code().mov(26, 0), kind).mov(1, uart).mov(2, 0x50).store(2, 1, 0x38, 4)
    main.mov(2, ord(">")).store(2, 1, 0, 4).label("wait").wfi().cbz(26, "wait")
    guest = make(world, main, kind, irq=irq)

    def person(until: int | None) -> bool:
        if guest.console.text != ">" or guest.console.received:
            return False
        guest.console.type(b"x")
        return True

    world.hv.on_idle = person
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    assert guest.values == [layout.UART_INTID, ord("x")]
    ((tick, data),) = guest.console.received
    assert data == b"x"
    assert 0 < tick <= world.port.now()


@KINDS
def test_more_interrupts_than_list_registers(world: World, kind: str) -> None:
    irq = Code().mrs(27, "ICC_IAR1_EL1").store(27, IO).add(26, 26, 1).msr("ICC_EOIR1_EL1", 27)
    gicr = (alias(kind) | layout.GICD_BASE) - layout.GICR_SIZE + _SGI_FRAME
    main = gic_on(Code().mov(26, 0), kind).mov(1, gicr).mov(2, 0x1FF).store(2, 1, 0x200, 4)
    main.mov(2, 9).label("wait").cmp(26, 2).b_if(Cond.LO, "wait")
    guest = make(world, main, kind, irq=irq)
    assert world.run(guest, 5_000_000).outcome is Outcome.POWERED_OFF
    assert guest.values == list(range(9))
    assert sum(v.exits for v in guest.running.vcpus) < 60


@KINDS
def test_an_idle_loop_that_unmasks_for_a_moment(world: World, kind: str) -> None:
    """WFI with interrupts masked, two instructions with them unmasked, and all over again."""
    mask_irq, nop = 0xD50342DF, 0xD503201F
    irq = Code().mrs(27, "ICC_IAR1_EL1").add(26, 26, 1).mov(28, 30_000).msr("CNTV_TVAL_EL0", 28).isb()
    irq.msr("ICC_EOIR1_EL1", 27)
    main = gic_on(Code().mov(26, 0), kind).word(mask_irq).mov(1, 30_000).msr("CNTV_TVAL_EL0", 1)
    main.mov(1, 1).msr("CNTV_CTL_EL0", 1).isb().mov(2, 40).label("idle").wfi()
    main.word(*[nop] * 12).unmask_irq().word(nop, mask_irq, *[nop] * 30).cmp(26, 2).b_if(Cond.LO, "idle")
    guest = make(world, main, kind, irq=irq)
    start = world.port.now()
    assert world.run(guest, 20_000_000).outcome is Outcome.POWERED_OFF
    assert world.port.now() - start < 40 * 30_000 * 1.5


@KINDS
def test_timer_interrupts_leave_a_vcpu_the_rest_of_its_slice(world: World, kind: str) -> None:
    """The others spin for longer than the timer's period until its turn comes again; it gets on with its work."""
    period, others = 3 * SHARED_SLICE, 5
    irq = Code().mrs(27, "ICC_IAR1_EL1").mov(28, period).msr("CNTV_TVAL_EL0", 28).isb().msr("ICC_EOIR1_EL1", 27)

    def build(entry: int) -> Code:
        first = Code()
        for n in range(1, 1 + others):
            first.call(psci.CPU_ON, mpidr(n), entry, n)
        gic_on(first, kind, 1 + others).mov(1, period).msr("CNTV_TVAL_EL0", 1).mov(1, 1).msr("CNTV_CTL_EL0", 1)
        return first.mov(3, 0).mov(2, 10 * SHARED_SLICE).label("work").add(3, 3, 1).cmp(3, 2).b_if(Cond.LO, "work")

    spin = Code().label("spin").b("spin")
    entry = at(with_secondary(kind, build(1 << 31), spin), "secondary", kind, irq)
    guest = make(world, with_secondary(kind, build(entry), spin), kind, vcpus=1 + others, irq=irq)
    assert world.run(guest, 60 * (1 + others) * SHARED_SLICE).outcome is Outcome.POWERED_OFF
    world.destroy(guest)
    world.assert_clean()
