"""Exits by waits, interrupts, timers and trapped registers of a running Realm (spec: rec-run sections 5, 6, 8, 9)."""

import pytest

from realmkit.arch.esr import ISS_SYSREG, Ec
from realmkit.arch.gic import ICH_VMCR, PPI_CNTHP, PPI_CNTP, PPI_CNTV, PPI_MAINTENANCE, SPURIOUS
from realmkit.arch.rmi import ENTER_TRAP_WFE, ENTER_TRAP_WFI, ExitReason, RecExit, Rmi
from realmkit.arch.rsi import Rsi
from realmkit.arch.sysregs import encoding_of
from tests.conformance import words
from tests.conformance.kit import CODE, HANDLED, Kit, program
from tests.conformance.words import Code

WFX = Ec.WFX << 26
PENDING, GROUP1, EOI = 1 << 62, 1 << 60, 1 << 41
STATE = 3 << 62
ACTIVE = 2 << 62
SPI, OTHER = 40, 41
PRIORITY = 0xA0 << 48
LR = PENDING | GROUP1 | PRIORITY | SPI
UIE, LRENPIE, NPIE, TDIR = 1 << 1, 1 << 2, 1 << 3, 1 << 14
IRQ_VECTOR = 0x280
EL1H_UNMASKED = 0x345
ENABLED, MASKED, FIRED = 1, 3, 5


def spin(count: int) -> Code:
    """About 2 * ``count`` instructions."""
    return [*words.mov(7, count), 0xD100_04E7, 0xB5FF_FFE7]


# ---- waits ----


@pytest.mark.parametrize(
    ("word", "flag", "ti"), [(words.WFI, ENTER_TRAP_WFI, 0), (words.WFE, ENTER_TRAP_WFE, 1)], ids=["WFI", "WFE"]
)
def test_trapped_waits(word: int, flag: int, ti: int) -> None:
    """The exit tells which one it was; the Realm goes on behind it with all its registers."""
    kit = Kit(program(words.mov(5, 0x55), word, words.add(6, 5, 1)))
    pc = CODE + 4 * program(words.mov(5, 0x55), word).index(word)
    kit.enter(flags=flag, gprs=[9] * 31).shows(ExitReason.SYNC, esr=WFX | ti)
    assert kit.context().pc == pc + 4
    context = kit.done(flags=flag, gprs=[9] * 31)
    assert (context.x[5], context.x[6], context.x[4]) == (0x55, 0x56, 0x1004)


def test_waits_trap_by_their_own_flag_only() -> None:
    kit = Kit(program(words.WFE))
    kit.done(flags=ENTER_TRAP_WFI)
    kit = Kit(program(words.WFI))
    kit.ticks(100_000, flags=ENTER_TRAP_WFE).shows(ExitReason.IRQ)


def test_the_flags_hold_for_one_entry() -> None:
    kit = Kit(program(words.WFE, words.WFE))
    kit.enter(flags=ENTER_TRAP_WFE).shows(ExitReason.SYNC, esr=WFX | 1)
    kit.done()


def test_a_wait_ends_with_a_virtual_interrupt() -> None:
    """Pending and masked by PSTATE: WFI completes and nothing is taken."""
    kit = Kit(program(interface(), words.WFI, words.mov(6, 1)))
    assert kit.done(lrs=[LR]).x[6] == 1


# ---- interrupts ----


def test_an_interrupt_of_the_host_ends_a_loop() -> None:
    kit = Kit(program(words.HERE))
    kit.ticks(100_000).shows(ExitReason.IRQ)
    kit.ticks(100_000).shows(ExitReason.IRQ)


def test_a_pending_interrupt_ends_the_run_before_it_begins() -> None:
    kit = Kit(program(words.mov(6, 1)))
    kit.ticks(0).shows(ExitReason.IRQ)
    assert kit.context().pc == CODE
    kit.done()


def test_what_the_host_masks_does_not_end_a_run() -> None:
    """By priority (ICC_PMR_EL1, which the entry preserves), by group enable, in the redistributor."""
    for register, value in (("ICC_PMR_EL1", 0xA0), ("ICC_IGRPEN1_EL1", 0)):
        kit = Kit(program(words.mov(6, 1)))
        kit.route_interrupts(PPI_CNTHP)
        kit.port.write("CNTHP_CTL_EL2", 1)
        kit.port.write(register, value)
        kit.done()
        assert kit.port.read(register) == value
    kit = Kit(program(words.mov(6, 1)))
    kit.route_interrupts()
    kit.port.write("CNTHP_CTL_EL2", 1)
    kit.done()


# ---- the virtual interface ----


def interface(priority: int = 0xF0) -> Code:
    code: Code = []
    for name, value in (("ICC_PMR_EL1", priority), ("ICC_IGRPEN1_EL1", 1)):
        code += [*words.mov(5, value), words.msr(name, 5)]
    return [*code, words.ISB]


ACK = words.mrs(6, "ICC_IAR1_EL1")
END = words.msr("ICC_EOIR1_EL1", 6)
END_OTHER = [*words.mov(8, OTHER), words.msr("ICC_EOIR1_EL1", 8)]
EOI_MODE = [*words.mov(5, 2), words.msr("ICC_CTLR_EL1", 5)]
DIR = words.msr("ICC_DIR_EL1", 6)

INTERFACE: dict[str, tuple[Code, list[int], int, list[int], int, int]] = {
    # what the Realm does, lists and control in; lists, control and MISR out
    "nothing": ([], [LR], 0, [LR], 0, 0),
    "acknowledge": ([ACK], [LR], 0, [LR & ~STATE | ACTIVE], 0, 0),
    "end": ([ACK, END], [LR], 0, [LR & ~STATE], 0, 0),
    "no pending": ([ACK, END], [LR], NPIE, [LR & ~STATE], NPIE, 1 << 3),
    "underflow": ([ACK, END], [LR, LR + 1], UIE, [LR & ~STATE, LR + 1], UIE, 1 << 1),
    "not present": (END_OTHER, [LR], LRENPIE, [LR], 1 << 27 | LRENPIE, 1 << 2),
    "EOI count without interrupt": (END_OTHER, [LR], 0, [LR], 1 << 27, 0),
    "maintenance at end": ([ACK, END], [LR | EOI], 0, [LR & ~STATE | EOI], 0, 1),
    "drop, not deactivate": ([*EOI_MODE, ACK, END], [LR], 0, [LR & ~STATE | ACTIVE], 0, 0),
    "drop and deactivate": ([*EOI_MODE, ACK, END, DIR], [LR], 0, [LR & ~STATE], 0, 0),
    "group enables": ([], [], 0xF0, [], 0xF0, 1 << 5 | 1 << 6),
}


@pytest.mark.parametrize(("code", "lrs", "hcr", "lists", "control", "misr"), INTERFACE.values(), ids=INTERFACE)
def test_list_registers(code: Code, lrs: list[int], hcr: int, lists: list[int], control: int, misr: int) -> None:
    kit = Kit(program(interface(), code))
    outcome = kit.enter(lrs=lrs, hcr=hcr)
    assert (outcome.x0, outcome.record.exit_reason) == (0, ExitReason.HOST_CALL)
    assert outcome.record.gicv3_lrs == (*lists, *[0] * (16 - len(lists)))
    assert (outcome.record.gicv3_hcr, outcome.record.gicv3_misr) == (control, misr)
    if ACK in code:
        assert kit.context().x[6] == SPI


def test_nothing_to_acknowledge() -> None:
    assert Kit(program(interface(), ACK)).done(lrs=[LR & ~STATE]).x[6] == SPURIOUS


def test_a_virtual_interrupt_is_taken() -> None:
    kit = Kit(program(interface(), words.daif_clear(2), words.NOP))
    vector, _, _, _, spsr = kit.handled(lrs=[LR])
    assert (vector, spsr) == (IRQ_VECTOR, EL1H_UNMASKED)


@pytest.mark.parametrize("priority", [0xA0, 0x80])
def test_a_virtual_interrupt_of_too_low_priority(priority: int) -> None:
    Kit(program(interface(priority), words.daif_clear(2), words.NOP)).done(lrs=[LR])


def test_vmcr_is_what_the_realm_reads() -> None:
    """PMR, binary points, EOI mode and group enables: from the first entry on."""
    names = ("ICC_PMR_EL1", "ICC_BPR0_EL1", "ICC_BPR1_EL1", "ICC_CTLR_EL1", "ICC_IGRPEN0_EL1", "ICC_IGRPEN1_EL1")
    reads = [words.mrs(20 + n, name) for n, name in enumerate(names)]
    for setup in ([], [*interface(0x70), *EOI_MODE, *words.mov(5, 5), words.msr("ICC_BPR0_EL1", 5)]):
        kit = Kit(program(setup, reads))
        outcome = kit.enter()
        pmr, bpr0, bpr1, ctlr, group0, group1 = kit.context().x[20:26]
        assert outcome.record.gicv3_vmcr == ICH_VMCR.make(
            VPMR=pmr, VBPR0=bpr0, VBPR1=bpr1, VEOIM=ctlr >> 1 & 1, VENG0=group0, VENG1=group1
        )


def test_a_maintenance_interrupt_is_an_exit_if_the_host_takes_it() -> None:
    kit = Kit(program(interface(), words.HERE))
    kit.route_interrupts(PPI_MAINTENANCE)
    outcome = kit.enter(lrs=[LR], hcr=UIE)
    outcome.shows(ExitReason.IRQ)
    assert outcome.record.gicv3_misr == 1 << 1


# ---- timers ----


def timer(name: str, after: int, control: int = ENABLED) -> Code:
    code = [*words.mov(5, after), words.msr(f"{name}_TVAL_EL0", 5), *words.mov(5, control)]
    return [*code, words.msr(f"{name}_CTL_EL0", 5)]


def timers(record: RecExit, name: str) -> tuple[int, int]:
    """Control of the timer, and of the other one."""
    both = record.cntv_ctl, record.cntp_ctl
    return both if name == "CNTV" else both[::-1]


PPIS = pytest.mark.parametrize(("name", "ppi"), [("CNTV", PPI_CNTV), ("CNTP", PPI_CNTP)])


@PPIS
def test_a_timer_that_fires_is_an_exit_once(name: str, ppi: int) -> None:
    kit = Kit(program(timer(name, 1000), words.mov(7, 0), words.HERE))
    kit.route_interrupts(ppi, PPI_CNTHP)
    outcome = kit.enter()
    outcome.shows(ExitReason.IRQ)
    assert timers(outcome.record, name) == (FIRED, 0)
    later = kit.ticks(100_000, ppi)
    later.shows(ExitReason.IRQ)
    assert timers(later.record, name) == (FIRED, 0)
    assert kit.port.now() >= later.record.cntv_cval + 100_000 or name == "CNTP", "the line of the timer was masked"


@PPIS
def test_a_masked_timer_is_no_exit(name: str, ppi: int) -> None:
    kit = Kit(program(timer(name, 1, MASKED), spin(100)))
    kit.route_interrupts(ppi)
    outcome = kit.enter()
    assert outcome.record.exit_reason == ExitReason.HOST_CALL
    assert timers(outcome.record, name) == (MASKED | 4, 0)


@PPIS
def test_a_timer_is_seen_at_the_next_call_whatever_the_host_enables(name: str, ppi: int) -> None:
    kit = Kit(program(timer(name, 1), words.call(Rsi.VERSION, 0x1_0000), words.mov(6, 1)))
    outcome = kit.enter()
    outcome.shows(ExitReason.IRQ)
    assert timers(outcome.record, name) == (FIRED, 0)
    assert kit.done().x[6] == 1


@PPIS
def test_a_timer_that_the_realm_stops_is_an_exit_when_the_host_knew_of_it(name: str, ppi: int) -> None:
    version = words.call(Rsi.VERSION, 0x1_0000)
    kit = Kit(program(timer(name, 1), version, words.msr(f"{name}_CTL_EL0", 31), version))
    kit.enter().shows(ExitReason.IRQ)
    outcome = kit.enter()
    outcome.shows(ExitReason.IRQ)
    assert timers(outcome.record, name) == (0, 0)
    kit.done()


def test_a_sleeping_realm_wakes_by_its_timer() -> None:
    kit = Kit(program(timer("CNTV", 1_000_000), words.WFI, words.mov(6, 1)))
    kit.route_interrupts(PPI_CNTV)
    kit.enter().shows(ExitReason.IRQ)
    assert kit.done(lrs=[LR]).x[6] == 1


def test_counters_are_one_counter() -> None:
    names = ("CNTVCT_EL0", "CNTPCT_EL0", "CNTVCT_EL0", "CNTPCT_EL0")
    kit = Kit(program([words.mrs(20 + n, name) for n, name in enumerate(names)]))
    x = kit.done().x[20:24]
    assert x == sorted(set(x))
    assert x[3] <= kit.port.now()


# ---- system registers ----


FORWARDED = ("ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1")


def sysreg(name: str) -> int:
    op0, op1, crn, crm, op2 = encoding_of(name)
    return Ec.SYSREG << 26 | 1 << 25 | ISS_SYSREG.make(Op0=op0, Op1=op1, CRn=crn, CRm=crm, Op2=op2)


@pytest.mark.parametrize("name", FORWARDED)
def test_sgis_are_the_hosts_business(name: str) -> None:
    kit = Kit(program(words.mov(5, 0x12_0003_0001), words.msr(name, 5), words.msr(name, 31)))
    kit.enter().shows(ExitReason.SYNC, esr=sysreg(name), gprs=(0x12_0003_0001,))
    kit.enter().shows(ExitReason.SYNC, esr=sysreg(name))
    kit.done()


def test_deactivation_is_the_hosts_business_with_tdir_only() -> None:
    code = [*words.mov(6, SPI), DIR]
    Kit(program(interface(), EOI_MODE, code)).done()
    kit = Kit(program(interface(), EOI_MODE, code))
    outcome = kit.enter(hcr=TDIR)
    outcome.shows(ExitReason.SYNC, esr=sysreg("ICC_DIR_EL1"), gprs=(SPI,))
    assert outcome.record.gicv3_hcr == TDIR
    kit.done(hcr=TDIR)


UNDEFINED = {
    "EL2": words.mrs(5, "HCR_EL2"),
    "EL2, write": words.msr("VTTBR_EL2", 5),
    "ICH": words.mrs(5, "ICH_LR0_EL2"),
    "EL3": words.mrs(5, "S3_6_C1_C1_0"),
    "EL12": words.mrs(5, "S3_5_C1_C0_0"),
    "implementation defined": words.mrs(5, "S3_0_C15_C0_0"),
    "implementation defined, write": words.msr("S3_3_C11_C0_0", 5),
    "implementation defined, SYS": words.sys(0, 15, 0, 0, 5),
    "TLBI of EL2": words.sys(4, 8, 7, 4, 31),
    "AT of EL2": words.sys(4, 7, 8, 4, 5),
    "self-synchronized counter": words.mrs(5, "CNTPCTSS_EL0"),
    "counter, write": words.msr("CNTVCT_EL0", 5),
    "counter frequency, write": words.msr("CNTFRQ_EL0", 5),
    "timer of EL2": words.mrs(5, "CNTHP_CTL_EL2"),
    "SVE": 0x0420_E3E5,
    "MTE": 0x9ADF_10A5,
    "WFIT": 0xD503_1025,
    "UDF": 0,
}


@pytest.mark.parametrize("word", UNDEFINED.values(), ids=UNDEFINED)
def test_what_a_realm_does_not_have_is_undefined(word: int) -> None:
    """At once, at the instruction, for whatever the Realm enables for itself."""
    enable = [*words.mov(5, 0x33 << 16), words.msr("CPACR_EL1", 5), words.ISB]
    kit = Kit(program(enable, word, words.mov(6, 1)))
    vector, esr, _, elr, _ = kit.handled()
    assert (vector, esr) == (0x200, 1 << 25)
    assert int.from_bytes(kit.read_realm(elr, 4), "little") == word
    assert kit.done().x[6] == 1


HARMLESS = {
    "AT, unallocated": words.sys(0, 7, 8, 4, 31),
    "identification space of EL0, unallocated": words.mrs(5, "S3_3_C0_C1_0"),
    "PMU event": words.msr("PMEVTYPER0_EL0", 31),
    "OS lock": words.msr("OSLAR_EL1", 31),
    "unallocated register": words.mrs(5, "S3_0_C1_C9_0"),
    "unallocated SYS": words.sys(0, 9, 1, 0, 31),
    "DC by set and way": words.sys(0, 7, 14, 2, 31),
}


@pytest.mark.parametrize("word", HARMLESS.values(), ids=HARMLESS)
def test_what_no_realm_needs_does_no_harm(word: int) -> None:
    """Undefined or without effect; the Realm goes on either way."""
    kit = Kit(program(word, words.mov(6, 1)))
    if kit.ticks(10_000).record.imm == HANDLED:
        kit.done()
    assert kit.context().x[6] == 1


HIDDEN = {
    "SVE, MPAM, AMU": ("ID_AA64PFR0_EL1", 0xF << 32 | 0xF << 40 | 0xF << 44),
    "MTE, SME": ("ID_AA64PFR1_EL1", 0xF << 8 | 0xF << 24),
    "PMU, SPE, trace": ("ID_AA64DFR0_EL1", 0xFF << 4 | 0xF << 32 | 0xF << 40 | 0xF << 44 | 0xF << 52),
    "random numbers": ("ID_AA64ISAR0_EL1", 0xF << 60),
    "AArch32": ("ID_ISAR0_EL1", 0xFFFF_FFFF),
    "SVE": ("ID_AA64ZFR0_EL1", (1 << 64) - 1),
    "SME": ("ID_AA64SMFR0_EL1", (1 << 64) - 1),
}


@pytest.mark.parametrize(("name", "mask"), HIDDEN.values(), ids=HIDDEN)
def test_features_that_realms_do_not_have(name: str, mask: int) -> None:
    assert Kit(program(words.mrs(5, name))).done().x[5] & mask == 0


@pytest.mark.parametrize(("num_bps", "num_wps"), [(1, 1), (5, 3)])
def test_breakpoints_are_as_measured(num_bps: int, num_wps: int) -> None:
    value = Kit(program(words.mrs(5, "ID_AA64DFR0_EL1")), num_bps=num_bps, num_wps=num_wps).done().x[5]
    assert (value & 0xF, value >> 12 & 0xF, value >> 20 & 0xF) == (6, num_bps, num_wps)


def test_pages_of_4_kb_and_the_affinity_of_the_rec() -> None:
    kit = Kit(program(words.mrs(5, "ID_AA64MMFR0_EL1"), words.mrs(6, "MPIDR_EL1"), words.mrs(7, "CurrentEL")))
    context = kit.done()
    assert (context.x[5] >> 28 & 0xF, context.x[6], context.x[7]) == (0, 1 << 31, 4)
    assert kit.ok(Rmi.FEATURES, 0)[1] & 0xFF == 48
    assert context.x[5] & 0xF == 5, "48 bits as the RMM says"


def test_there_is_no_performance_monitor() -> None:
    """Reads are zero whatever was written: nothing counts the time of the outside."""
    names = ("PMCR_EL0", "PMCNTENSET_EL0", "PMCCNTR_EL0", "PMEVCNTR0_EL0", "PMEVCNTR9_EL0", "PMINTENSET_EL1")
    on = [*words.mov(5, (1 << 64) - 1), *(words.msr(name, 5) for name in names)]
    kit = Kit(program(on, spin(100), [words.mrs(20 + n, name) for n, name in enumerate(names)]))
    outcome = kit.enter()
    assert (outcome.record.exit_reason, outcome.record.pmu_ovf_status) == (ExitReason.HOST_CALL, 0)
    assert kit.context().x[20:26] == [0] * 6


HALF_PRECISION = {"one source": 0x0EF9_294C, "two sources": 0x4EDC_1CA0}
BEFORE: dict[str, Code] = {
    "nothing": [words.NOP],
    "a wait": [words.WFE],
    "a register access": [words.msr("NZCV", 31)],
    "a trapped register access": [words.mrs(6, "ID_AA64PFR0_EL1")],
    "a call": words.call(Rsi.VERSION, 0x1_0000),
    "a jump": [*words.mov(6, CODE + 0x40), words.br(6), *[words.NOP] * 16],
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("word", HALF_PRECISION.values(), ids=HALF_PRECISION)
def test_instructions_that_the_engine_cannot_take(word: int, before: Code) -> None:
    """Unallocated half-precision SIMD: UNDEFINED like the rest of it, wherever it stands."""
    code = program(before, word, words.mov(6, 1))
    if words.br(6) in before:  # the jump goes to the instruction itself
        code[code.index(words.br(6)) - 1] = words.mov(6, CODE + 4 * code.index(word))[0]
    kit = Kit(code)
    vector, esr, _, elr, _ = kit.handled()
    assert (vector, esr, elr) == (0x200, 1 << 25, CODE + 4 * code.index(word))
    assert kit.done().x[6] == 1
