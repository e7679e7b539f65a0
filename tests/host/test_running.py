"""Exits that no healthy machine produces, handed to the hypervisor by a forged entry."""

from typing import Any

import pytest

from realmkit.arch import psci
from realmkit.arch.esr import Ec, make_esr
from realmkit.arch.rmi import ENTER_INJECT_SEA, ExitReason
from realmkit.host.exits import Exit
from realmkit.host.hypervisor import Outcome
from realmkit.host.vmm.layout import RAM_BASE
from tests.host.kit import UNPROTECTED, Guest, World, program

_LISTS = (0,) * 16


def record(reason: int, *, esr: int = 0, hpfar: int = 0, gprs: tuple[int, ...] = (), **fields: Any) -> Exit:
    """An exit record; what is not given is zero."""
    registers = (*gprs, *(0,) * (31 - len(gprs)))
    return Exit(reason, esr, 0, hpfar, registers, 0, _LISTS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)._replace(**fields)


OFF = record(ExitReason.PSCI, gprs=(psci.SYSTEM_OFF,))


class Forged:
    """A Realm whose exits are these, whatever it does."""

    def __init__(self, world: World, *records: Exit) -> None:
        self.world = world
        self.guest: Guest = world.realm(program())
        self.entries: list[tuple[int, tuple[int, ...]]] = []
        self._records = list(records)
        self.guest.running.enter = self.enter

    def enter(self, vcpu: object, flags: int, gprs: tuple[int, ...], hcr: int, lrs: tuple[int, ...]) -> Exit:
        self.entries.append((flags, gprs))
        self.world.port.charge(1000)
        return self._records.pop(0) if len(self._records) > 1 else self._records[0]

    def run(self, max_ticks: int = 1_000_000) -> tuple[Outcome, str]:
        result = self.world.run(self.guest, max_ticks)
        self.world.destroy(self.guest)
        self.world.assert_clean()
        return result.outcome, result.reason


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("exit_record", "words"),
    [
        (record(ExitReason.SERROR, esr=make_esr(Ec.SERROR, 0x11)), "SError"),
        (record(7), "reason that the specification does not have: 7"),
        (record(255), "255"),
        (record(ExitReason.SYNC, esr=0), "class 0x0"),
        (record(ExitReason.SYNC, esr=make_esr(Ec.SVC64)), "class 0x15"),
        (record(ExitReason.PSCI, gprs=(psci.CPU_ON, 0x55)), "MPIDR 0x55"),
        (record(ExitReason.PSCI, gprs=(0x8400_00FF,)), "RMI_PSCI_COMPLETE"),
        (record(ExitReason.SYNC, esr=make_esr(Ec.DABT_LOWER, 0x5), hpfar=0x1000), "not RAM"),
        (record(ExitReason.SYNC, esr=make_esr(Ec.IABT_LOWER, 0x5), hpfar=RAM_BASE - 0x1000 >> 8), "not RAM"),
    ],
)
def test_what_cannot_be_served_ends_the_guest_with_a_reason(world: World, exit_record: Exit, words: str) -> None:
    outcome, reason = Forged(world, exit_record).run()
    assert outcome is Outcome.FAILED
    assert words in reason


@pytest.mark.parametrize("reason", [ExitReason.IRQ, ExitReason.FIQ])
def test_interrupts_that_never_end_do_not_hang_the_host(world: World, reason: ExitReason) -> None:
    assert Forged(world, record(reason)).run()[0] is Outcome.MAX_TICKS


def test_an_external_abort_that_the_rmm_has_injected_needs_nothing(world: World) -> None:
    forged = Forged(world, record(ExitReason.SYNC, esr=make_esr(Ec.DABT_LOWER, 0x10 | 1 << 9)), OFF)
    assert forged.run()[0] is Outcome.POWERED_OFF
    assert not forged.entries[1][0] & ENTER_INJECT_SEA


def test_an_access_without_syndrome_is_refused(world: World) -> None:
    abort = record(ExitReason.SYNC, esr=make_esr(Ec.DABT_LOWER, 0x6), hpfar=(UNPROTECTED | 0x0100_0000) >> 8)
    forged = Forged(world, abort, OFF)
    assert forged.run()[0] is Outcome.POWERED_OFF
    assert forged.entries[1][0] & ENTER_INJECT_SEA


def test_writes_to_other_registers_have_no_effect(world: World) -> None:
    dir_write = record(ExitReason.SYNC, esr=make_esr(Ec.SYSREG, 3 << 20 | 1 << 17 | 12 << 10 | 11 << 1))
    assert Forged(world, dir_write, OFF).run()[0] is Outcome.POWERED_OFF


def test_fault_address_and_next_timer() -> None:
    assert record(0, hpfar=0x8000_0000 >> 8, far=0x123).fault_ipa == 0x8000_0123
    assert record(0).next_timer() is None
    assert record(0, cntv_ctl=1, cntv_cval=500, cntp_ctl=1, cntp_cval=300).next_timer() == 300
    assert record(0, cntv_ctl=5, cntv_cval=500, cntp_ctl=3, cntp_cval=300).next_timer() is None
    assert record(6).reason_name == "SERROR"
    assert record(9).reason_name == "reason 9"
