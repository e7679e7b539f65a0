"""Exceptions of a Realm: who serves them, and what an exit shows of the Realm (spec: rec-run sections 4, 6, 8)."""

from dataclasses import fields

import pytest

from realmkit.arch.errors import InternalError
from realmkit.arch.esr import ISS_DABT, Ec, make_esr
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ExitReason, RecExit, Rmi
from realmkit.arch.rsi import Rsi
from realmkit.arch.timer import CNTVMASK
from realmkit.arch.vmsa import HCR_EL2
from realmkit.machine.port import CpuContext, ExceptionInfo, ExceptionKind
from tests.rmm.execution.running import (
    BUFFER,
    CODE,
    DESTROYED,
    EMPTY,
    EMPTY_BLOCK,
    NOT_SHARED,
    OUTSIDE,
    SECOND,
    SHARED,
    UNMAPPED,
    UNPROTECTED,
    VBAR,
    Running,
)

EVERY_EXIT = {
    *("gicv3_hcr", "gicv3_lrs", "gicv3_misr", "gicv3_vmcr"),
    *("cntp_ctl", "cntp_cval", "cntv_ctl", "cntv_cval"),
}
ALL_ISS = (1 << 25) - 1
UER, UC, UEO = 0 << 11, 2 << 11, 3 << 11


def running(recs: int = 1) -> Running:
    """A REC whose registers all hold secrets, with timers and list registers in use."""
    bench = Running(recs)
    ctx = bench.enter(hcr=1 << 1, lrs=[1 << 62 | 27])
    ctx.x[:] = [0xA5A5_0000_0000_0000 | n for n in range(31)]
    ctx.ich.vmcr = 0xF8 << 24 | 2
    ctx.write("VBAR_EL1", VBAR)
    ctx.write("CNTV_CTL_EL0", 1)
    ctx.write("CNTP_CTL_EL0", 3)
    ctx.write("CNTV_CVAL_EL0", 0x111)
    ctx.write("CNTP_CVAL_EL0", 0x222)
    bench.rec_state().timer_masks = CNTVMASK  # the Host knows
    return bench


def only(record: RecExit | None, **expected: object) -> None:
    """The record holds these fields, what every exit reports, and zeros."""
    assert record is not None
    for member in fields(record):
        value = getattr(record, member.name)
        if member.name in EVERY_EXIT:
            continue
        default = (0,) * 31 if member.name == "gprs" else 0
        assert value == expected.get(member.name, default), member.name
    assert (record.cntv_cval, record.cntp_cval) == (0x111, 0x222)
    assert (record.cntv_ctl, record.cntp_ctl) == (5, 7)
    assert (record.gicv3_hcr, record.gicv3_vmcr, record.gicv3_misr) == (2, 0xF8 << 24 | 2, 2)
    assert record.gicv3_lrs == (1 << 62 | 27, *[0] * 15)


def gprs(*values: int) -> tuple[int, ...]:
    return (*values, *(0,) * (31 - len(values)))


# ---- whitelists (attacks 1) ----


def test_irq_and_fiq_show_nothing() -> None:
    only(running().take(kind=ExceptionKind.IRQ), exit_reason=ExitReason.IRQ)
    only(running().take(kind=ExceptionKind.FIQ), exit_reason=ExitReason.FIQ)


def test_serror_shows_its_class_and_no_more() -> None:
    """attacks 2."""
    esr = make_esr(Ec.SERROR, ALL_ISS)
    only(running().take(esr, kind=ExceptionKind.SERROR), exit_reason=ExitReason.SERROR, esr=0xBD00_1E3F)


@pytest.mark.parametrize(
    ("iss", "pending"),
    [
        (0x11 | 0 << 10, 0),  # UC
        (0x11 | 1 << 10, 1),  # UEU
        (0x11 | 2 << 10, 0),  # UEO
        (0x11 | 3 << 10, 1),  # UER
        (0x11 | 6 << 10, 0),  # CE
        (0x11 | 3 << 10 | 1 << 24, 0),  # IMPLEMENTATION DEFINED syndrome
        (0x00 | 3 << 10, 0),  # uncategorized
    ],
)
def test_serror_that_concerns_the_realm(iss: int, pending: int) -> None:
    bench = running()
    bench.take(make_esr(Ec.SERROR, iss), kind=ExceptionKind.SERROR)
    assert HCR_EL2.get(bench.context().read("HCR_EL2"), "VSE") == pending


@pytest.mark.parametrize("ti", range(4))
def test_wfx_shows_its_kind_only(ti: int) -> None:
    bench = running()
    record = bench.take(make_esr(Ec.WFX, ALL_ISS & ~3 | ti))
    only(record, exit_reason=ExitReason.SYNC, esr=Ec.WFX << 26 | ti)
    assert bench.context().pc == CODE + 4


FETCH, DATA = 0x20 << 26 | 0x1A3F, 0x24 << 26 | 0x1E3F
EMULATABLE = DATA | 0x01C0_8040
READ = ALL_ISS & ~(1 << 6)
NO_ISV = ALL_ISS & ~(1 << 24)
X5 = ~(0x1F << 16) | 5 << 16

ABORTS: dict[str, tuple[int, Ec, int, int, int, int | None]] = {
    # IPA, class, ISS; ESR, FAR and the register that the Host sees
    "unmapped RAM": (UNMAPPED, Ec.DABT_LOWER, ALL_ISS, DATA, 0, None),
    "unmapped RAM, fetch": (UNMAPPED, Ec.IABT_LOWER, ALL_ISS, FETCH, 0, None),
    "DESTROYED": (DESTROYED, Ec.DABT_LOWER, ALL_ISS, DATA, 0, None),
    "DESTROYED, fetch": (DESTROYED, Ec.IABT_LOWER, ALL_ISS, FETCH, 0, None),
    "no syndrome": (NOT_SHARED, Ec.DABT_LOWER, NO_ISV, DATA, 0, None),
    "write": (NOT_SHARED, Ec.DABT_LOWER, ALL_ISS & X5, EMULATABLE, 0x678, 5),
    "write of XZR": (NOT_SHARED, Ec.DABT_LOWER, ALL_ISS, EMULATABLE, 0x678, None),
    "read": (NOT_SHARED, Ec.DABT_LOWER, READ & X5, EMULATABLE & ~0x40, 0x678, None),
    "permission": (SHARED, Ec.DABT_LOWER, ALL_ISS & X5, EMULATABLE, 0x678, 5),
}


@pytest.mark.parametrize(("ipa", "ec", "iss", "shown", "far", "register"), ABORTS.values(), ids=ABORTS)
def test_aborts_show_what_the_host_needs(
    ipa: int, ec: Ec, iss: int, shown: int, far: int, register: int | None
) -> None:
    """attacks 2: of the syndrome, the fault address and the registers only what the decision table lists."""
    bench = running()
    permission_fault = 0x0F
    record = bench.abort(ipa, iss & ~0x3F | permission_fault, ec, va=0xFFFF_8000_1234_5678)
    seen = gprs() if register is None else gprs(bench.context().x[register])
    only(
        record,
        exit_reason=ExitReason.SYNC,
        esr=shown & ~0x3F | permission_fault,
        far=far,
        hpfar=ipa >> 8,
        gprs=seen,
    )
    assert bench.context().pc == CODE


@pytest.mark.parametrize(("sas", "value"), [(0, 0x05), (1, 0x0005), (2, 0x0000_0005), (3, 0xA5A5_0000_0000_0005)])
def test_a_write_shows_the_bytes_that_it_writes(sas: int, value: int) -> None:
    bench = running()
    record = bench.abort(NOT_SHARED, ISS_DABT.make(ISV=1, SAS=sas, SRT=5, WnR=1, DFSC=7))
    assert record is not None
    assert record.gprs == gprs(value)


def test_psci_shows_the_call_only() -> None:
    bench = running(2)
    only(bench.smc(0xC400_0003, 1, SECOND, 3, 4, 5), exit_reason=ExitReason.PSCI, gprs=gprs(0xC400_0003, 1))


def test_ripas_change_shows_the_range_only() -> None:
    record = running().smc(Rsi.IPA_STATE_SET, EMPTY, EMPTY + 0x1000, 1, 1)
    only(
        record,
        exit_reason=ExitReason.RIPAS_CHANGE,
        ripas_base=EMPTY,
        ripas_top=EMPTY + 0x1000,
        ripas_value=1,
    )


def test_host_call_shows_the_structure_only() -> None:
    bench = running()
    bench.poke(BUFFER, b"\x02\x01" + bytes(6) + bytes([7]) + bytes(247))
    only(bench.smc(Rsi.HOST_CALL, BUFFER), exit_reason=ExitReason.HOST_CALL, imm=0x102, gprs=gprs(7))


@pytest.mark.parametrize(
    ("call", "ipa"),
    [
        (Rsi.HOST_CALL, UNMAPPED),
        (Rsi.HOST_CALL, DESTROYED),
        (Rsi.HOST_CALL, UNMAPPED + 0x700),
        (Rsi.REALM_CONFIG, UNMAPPED),
        (Rsi.REALM_CONFIG, DESTROYED),
    ],
)
def test_a_buffer_that_is_not_there_is_a_data_abort(call: Rsi, ipa: int) -> None:
    """The SMC is made again after the Host has mapped the page."""
    bench = running()
    before = bench.context().x[1:]
    record = bench.smc(call, ipa)
    only(record, exit_reason=ExitReason.SYNC, esr=0x24 << 26 | 0x7, hpfar=(ipa & ~0xFFF) >> 8)
    assert bench.context().pc == CODE
    assert bench.context().x[2:] == before[1:]
    assert bench.rec_state().host_call_ipa is None
    assert bench.refused(1).label == "rec_mmio", "it is not emulatable"


@pytest.mark.parametrize("call", [Rsi.HOST_CALL, Rsi.REALM_CONFIG])
def test_a_new_page_is_no_memory_of_the_realm_while_it_is_destroyed(call: Rsi) -> None:
    """The Host puts a page of its own making behind a DESTROYED address: the RMM does not use it for the Realm."""
    bench = running()
    page = bench.page(bench.rd, DESTROYED)
    record = bench.smc(call, DESTROYED)
    only(record, exit_reason=ExitReason.SYNC, esr=0x24 << 26 | 0x7, hpfar=DESTROYED >> 8)
    assert not any(bench.bus.read(Pas.REALM, page, 4096))


def test_a_buffer_below_a_block_entry_names_the_level() -> None:
    bench = running()
    bench.smc(Rsi.IPA_STATE_SET, EMPTY_BLOCK, EMPTY_BLOCK + 0x20_0000, 1, 0)
    bench.ok(Rmi.RTT_SET_RIPAS, bench.rd, bench.recs[0], EMPTY_BLOCK, EMPTY_BLOCK + 0x20_0000)
    bench.enter()
    record = bench.smc(Rsi.REALM_CONFIG, EMPTY_BLOCK + 0x3000)
    assert record is not None
    assert (record.esr, record.hpfar) == (0x24 << 26 | 0x6, EMPTY_BLOCK + 0x3000 >> 8)


@pytest.mark.parametrize("ec", [Ec.ILLEGAL_STATE, Ec.PC_ALIGN, Ec.BRK, Ec.UNKNOWN, 0x3F])
def test_other_classes_show_nothing(ec: int) -> None:
    only(running().take(ec << 26 | ALL_ISS), exit_reason=ExitReason.SYNC)


# ---- exceptions that stay in the Realm ----


def injected(bench: Running) -> tuple[int, int, int]:
    """(ESR, FAR, ELR) of what the Realm takes."""
    ctx = bench.context()
    assert ctx.pc == VBAR + 0x200
    return ctx.read("ESR_EL1"), ctx.read("FAR_EL1"), ctx.read("ELR_EL1")


@pytest.mark.parametrize(
    ("ipa", "ec"),
    [
        (EMPTY, Ec.DABT_LOWER),
        (EMPTY, Ec.IABT_LOWER),
        (EMPTY_BLOCK, Ec.DABT_LOWER),
        (UNPROTECTED - 0x1000, Ec.DABT_LOWER),
        (NOT_SHARED, Ec.IABT_LOWER),
        (SHARED, Ec.IABT_LOWER),
        (OUTSIDE - 0x1000, Ec.IABT_LOWER),
    ],
)
def test_accesses_that_the_host_never_sees(ipa: int, ec: Ec) -> None:
    bench = running()
    assert bench.abort(ipa, 0x7, ec, va=0x7_7777) is None
    same = Ec.DABT_SAME if ec is Ec.DABT_LOWER else Ec.IABT_SAME
    assert injected(bench) == (make_esr(same, 0x210), 0x7_7777, CODE)
    assert bench.interrupt().esr == 0
    assert bench.refused(1).label == "rec_mmio"


@pytest.mark.parametrize("fsc", [0x23, 0x24, 0x25, 0x26, 0x27, 0x28])
@pytest.mark.parametrize("ec", [Ec.DABT_LOWER, Ec.IABT_LOWER])
def test_a_granule_protection_fault_is_an_external_abort(fsc: int, ec: Ec) -> None:
    bench = running()
    assert bench.abort(SHARED, fsc, ec) is None
    assert injected(bench)[0] & 0x3FF == 0x210


@pytest.mark.parametrize("fsc", [0x10, 0x13, 0x14, 0x15, 0x16, 0x17])
@pytest.mark.parametrize(("severity", "inject"), [(UER, True), (UC, True), (UEO, False)])
def test_external_aborts(fsc: int, severity: int, inject: bool) -> None:
    """They come first, wherever the address lies, and no address is shown."""
    for ipa in (BUFFER, EMPTY, NOT_SHARED, OUTSIDE):
        bench = running()
        record = bench.abort(ipa, 1 << 24 | severity | fsc)
        only(record, exit_reason=ExitReason.SYNC, esr=0x24 << 26 | severity | fsc)
        assert (bench.context().pc == VBAR + 0x200) is inject
        assert bench.refused(1).label == "rec_mmio"


@pytest.mark.parametrize("ipa", [OUTSIDE, OUTSIDE + 0x1000, 1 << 47])
@pytest.mark.parametrize("ec", [Ec.DABT_LOWER, Ec.IABT_LOWER])
def test_an_address_outside_the_ipa_space_is_the_realms_own_fault(ipa: int, ec: Ec) -> None:
    """attacks 27: MMU off, so the fault is of level 0."""
    bench = running()
    assert bench.abort(ipa, 0x4, ec, va=ipa + 8) is None
    same = Ec.DABT_SAME if ec is Ec.DABT_LOWER else Ec.IABT_SAME
    assert injected(bench) == (make_esr(same), ipa + 8, CODE)


def test_hvc_is_unknown_at_the_instruction() -> None:
    """attacks 39: the preferred return address of HVC is behind it, that of the exception is not."""
    bench = running()
    bench.context().pc = CODE + 4
    assert bench.take(make_esr(Ec.HVC64, 5)) is None
    assert injected(bench) == (make_esr(Ec.UNKNOWN), 0, CODE)


@pytest.mark.parametrize("ec", [Ec.FP_ACCESS, Ec.SVE_ACCESS, Ec.SME_ACCESS])
def test_registers_that_a_realm_does_not_have_are_unknown(ec: Ec) -> None:
    bench = running()
    assert bench.take(make_esr(ec)) is None
    assert injected(bench) == (make_esr(Ec.UNKNOWN), 0, CODE)


def test_an_exception_without_a_rec_is_our_bug() -> None:
    bench = Running()
    with pytest.raises(InternalError):
        bench.rmm.on_exception(bench.port, CpuContext(), ExceptionInfo(ExceptionKind.IRQ))
    bench.enter()
    with pytest.raises(InternalError):
        bench.rmm.on_exception(bench.port, CpuContext(), ExceptionInfo(ExceptionKind.IRQ))


# ---- the level of an Address Size fault ----


class StageOne(Running):
    """A Realm with its own tables of 4 KB granules: level 0 or 1 in BUFFER, the next in SECOND."""

    def __init__(self, t0sz: int) -> None:
        super().__init__()
        ctx = self.enter()
        ctx.write("VBAR_EL1", VBAR)
        ctx.write("SCTLR_EL1", 0xC5_0879)
        ctx.write("TCR_EL1", t0sz | t0sz << 16 | 2 << 30)
        ctx.write("TTBR0_EL1", BUFFER)
        ctx.write("TTBR1_EL1", BUFFER | 1 << 48)

    def entry(self, table: int, index: int, value: int) -> None:
        self.bus.write64(Pas.REALM, self.pa(table) + index * 8, value)

    def level(self, va: int, ipa: int = OUTSIDE) -> int:
        assert self.abort(ipa, 0x4, va=va) is None
        esr = self.context().read("ESR_EL1")
        assert esr & 0x3F < 4
        return esr & 0x3F


@pytest.mark.parametrize("upper", [0, 0xFFFF << 48], ids=["TTBR0", "TTBR1"])
def test_level_of_a_block(upper: int) -> None:
    bench = StageOne(16)
    bench.entry(BUFFER, 0, SECOND | 3)
    bench.entry(SECOND, 1, OUTSIDE | 1)
    assert bench.level(upper | 1 << 30) == 1


def test_level_of_a_page() -> None:
    bench = StageOne(25)
    bench.entry(BUFFER, 0, SECOND | 3)
    bench.entry(SECOND, 0, BUFFER | 3)  # level 3 is the table of level 1 again
    bench.entry(BUFFER, 5, OUTSIDE | 3)
    assert bench.level(5 << 12) == 3


def test_level_of_a_table_that_lies_outside() -> None:
    bench = StageOne(16)
    bench.entry(BUFFER, 0, SECOND | 3)
    bench.entry(SECOND, 1, OUTSIDE | 3)
    assert bench.level(1 << 30) == 1


def test_level_of_a_base_register() -> None:
    bench = StageOne(16)
    bench.context().write("TTBR0_EL1", OUTSIDE)
    assert bench.level(0x1234) == 0


@pytest.mark.parametrize("table", [UNMAPPED, EMPTY, DESTROYED, SHARED, UNPROTECTED, 1 << 47, (1 << 48) - 4096])
@pytest.mark.parametrize("t0sz", [0, 16, 24, 39, 48, 63])
def test_tables_that_cannot_be_read_do_no_harm(table: int, t0sz: int) -> None:
    bench = StageOne(t0sz)
    bench.context().write("TTBR0_EL1", table)
    assert bench.level((1 << 48) - 1) < 4


@pytest.mark.parametrize("tg", range(4))
def test_every_granule_size_is_walked_to_an_end(tg: int) -> None:
    for t0sz in range(64):
        bench = StageOne(t0sz)
        bench.context().write("TCR_EL1", t0sz | tg << 14)
        for index in range(512):
            bench.entry(BUFFER, index, BUFFER | 3)
        assert bench.level(0x1234_5678_9ABC) < 4
