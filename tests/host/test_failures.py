"""Whatever command the RMM refuses, at whatever moment: creation fails cleanly, and the next one works."""

from collections.abc import Callable
from typing import Any

import pytest

from realmkit.arch import psci
from realmkit.arch.errors import RealmkitError
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage
from realmkit.arch.rmi import Rmi, Status
from realmkit.host.hypervisor import Outcome
from realmkit.host.rmi import RmiError
from realmkit.host.vmm.layout import RAM_BASE, VmConfig
from realmkit.machine.platforms import small
from realmkit.stack import assemble
from tests.host.code import Code
from tests.host.kit import MIB, World, program, say

Smc = Callable[..., tuple[int, ...]]
CREATING = (Rmi.GRANULE_DELEGATE, Rmi.REALM_CREATE, Rmi.RTT_CREATE, Rmi.RTT_INIT_RIPAS, Rmi.DATA_CREATE)
CREATING_REC = (Rmi.REC_AUX_COUNT, Rmi.REC_CREATE, Rmi.REALM_ACTIVATE)


class Refusing:
    """An RMM that refuses the n-th call of a command with a status; ``count`` says how many there were."""

    def __init__(self, world: World, command: Rmi, number: int, status: int = Status.ERROR_INPUT) -> None:
        self._rmi: Any = world.hv.rmi
        self._smc: Smc = self._rmi._smc
        self._command, self._number, self._status = command, number, status
        self.count = 0

    def __enter__(self) -> "Refusing":
        self._rmi._smc = self
        return self

    def __exit__(self, *_: object) -> None:
        self._rmi._smc = self._smc

    def __call__(self, fid: int, *arguments: int) -> tuple[int, ...]:
        if fid == self._command:
            self.count += 1
            if self.count == self._number:
                return (self._status, 0, 0, 0, 0, 0, 0, 0)
        return self._smc(fid, *arguments)


@pytest.mark.parametrize("command", [*CREATING, *CREATING_REC])
def test_every_refusal_during_creation_leaves_nothing(command: Rmi) -> None:
    world = World()
    code = program(say(Code(), 1))
    with Refusing(world, command, 0) as counting:
        world.destroy(world.realm(code, vcpus=2))
    total = counting.count
    assert total
    picked = range(1, total + 1) if total < 20 else (1, 2, 3, total // 2, total - 1, total)
    for number in picked:
        with Refusing(world, command, number), pytest.raises(RmiError, match=rf"RMI_{command.name}\("):
            world.realm(code, vcpus=2)
        world.assert_clean()
    guest = world.realm(code, vcpus=2)
    assert guest.running.realm.vmid == 1
    assert world.run(guest).outcome is Outcome.POWERED_OFF
    world.destroy(guest)
    world.assert_clean()


@pytest.mark.parametrize("status", [Status.ERROR_REALM, Status.ERROR_RTT, Status.ERROR_RTT | 3 << 8, (1 << 64) - 1])
@pytest.mark.parametrize("command", [Rmi.RTT_CREATE, Rmi.DATA_CREATE, Rmi.RTT_INIT_RIPAS])
def test_every_status_of_a_refusal(command: Rmi, status: int) -> None:
    world = World()
    with Refusing(world, command, 1, status), pytest.raises(RealmkitError):
        world.realm(program())
    world.assert_clean()


@pytest.mark.parametrize("command", [Rmi.GRANULE_DELEGATE, Rmi.DATA_CREATE_UNKNOWN, Rmi.RTT_CREATE])
def test_a_refusal_on_demand_ends_the_guest_and_leaves_nothing(command: Rmi) -> None:
    world = World()
    guest = world.realm(program(Code().mov(1, RAM_BASE + 2 * MIB).store(1, 1)))
    with Refusing(world, command, 1):
        result = world.run(guest)
    assert result.outcome is Outcome.FAILED
    assert f"RMI_{command.name}" in result.reason
    world.destroy(guest)
    world.assert_clean()


def test_an_interrupted_creation_leaves_nothing() -> None:
    world = World()

    class Interrupt(Refusing):
        def __call__(self, fid: int, *arguments: int) -> tuple[int, ...]:
            if fid == Rmi.REC_CREATE:
                raise KeyboardInterrupt
            return super().__call__(fid, *arguments)

    with Interrupt(world, Rmi.REC_CREATE, 1), pytest.raises(KeyboardInterrupt):
        world.realm(program())
    world.assert_clean()


def hostile_plans(world: World) -> dict[str, tuple[object, ...]]:
    page = bytes(4096)
    ram = (CreateTable(RAM_BASE, 2), InitRipas(RAM_BASE, RAM_BASE + 8 * MIB, 2))
    return {
        "the same page twice": (*ram, LoadPage(RAM_BASE, page), LoadPage(RAM_BASE, page)),
        "a page above the Protected half": (*ram, LoadPage(1 << 40, page)),
        "a page that is not aligned": (*ram, LoadPage(RAM_BASE + 1, page)),
        "a VCPU out of order": (*ram, CreateRec(1, 0)),
        "two VCPUs of one number": (*ram, CreateRec(0, 0), CreateRec(0, 0)),
        "RAM twice the other way round": (*ram, InitRipas(RAM_BASE + 8 * MIB, RAM_BASE, 2)),
        "a table twice": (*ram, CreateTable(RAM_BASE, 2)),
        "a table at no level": (*ram, CreateTable(RAM_BASE, 4)),
        "a table below nothing": (CreateTable(RAM_BASE, 3),),
        "RIPAS over populated memory": (*ram, LoadPage(RAM_BASE, page), InitRipas(RAM_BASE, RAM_BASE + 4096, 3)),
    }


@pytest.mark.parametrize("what", list(hostile_plans(World())))
def test_impossible_plans_are_refused_and_leave_nothing(what: str) -> None:
    world = World()
    config = VmConfig(8 * MIB)
    devices, _, _ = world.devices(config)
    realm = config.realm(world.hv.rmi.features())
    steps: Any = hostile_plans(world)[what]
    with pytest.raises(RmiError):
        world.hv.create(LaunchPlan(realm, steps, ((RAM_BASE, RAM_BASE + 8 * MIB),)), devices)
    world.assert_clean()


def test_a_vm_that_cannot_be_built_leaves_nothing() -> None:
    world = World()
    config = VmConfig(8 * MIB)
    devices, _, _ = world.devices(config)
    realm = config.realm(world.hv.rmi.features())
    built = LaunchPlan(realm, (LoadPage(0, bytes(4096)),), ((RAM_BASE, RAM_BASE + 8 * MIB),))
    with pytest.raises(RealmkitError, match="outside the VM's RAM"):
        world.hv.create_vm(built, devices)
    world.assert_clean()


@pytest.mark.parametrize("pes", [1, 2])
@pytest.mark.parametrize(
    ("call", "reason"),
    [(psci.CPU_OFF, "idle for ever"), (psci.SYSTEM_OFF, "PSCI SYSTEM_OFF"), (psci.SYSTEM_RESET, "reset")],
)
def test_a_host_that_takes_its_own_power_does_not_wait_for_ever(call: int, reason: str, pes: int) -> None:
    with pytest.raises(RealmkitError, match=reason):
        assemble(small(pes=pes)).host_port().smc(call)
