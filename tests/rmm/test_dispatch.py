"""The command table, the calling convention and the events of RMI calls (spec: rmi section 1)."""

import ast
import hashlib
import inspect
from types import ModuleType

import pytest

from realmkit.arch.events import Call, Event, GranuleTransition, Measured, RttChange
from realmkit.arch.fields import RegisterTable
from realmkit.arch.rmi import FEATURE_REGISTER_0, INPUTS, OUTPUTS, Rmi
from realmkit.arch.smccc import NOT_SUPPORTED, RMI_RANGE, SVE_HINT
from realmkit.arch.time import CHARGE_RMI
from realmkit.rmm import (
    commands_data,
    commands_granule,
    commands_query,
    commands_realm,
    commands_ripas,
    commands_rtt,
    commands_unprotected,
)
from realmkit.rmm.table import RMI_1_0
from tests.rmm.fake import Bench

MODULES = [
    commands_data,
    commands_granule,
    commands_query,
    commands_realm,
    commands_ripas,
    commands_rtt,
    commands_unprotected,
]


def test_each_row_is_a_function_under_its_specification_name() -> None:
    for fid, command in RMI_1_0.items():
        assert command.name == Rmi(fid).name
        assert command.handler.__name__ == command.name.lower()
        names = tuple(inspect.signature(command.handler).parameters)
        assert names == ("rmm", "port", *INPUTS[Rmi(fid)])
        assert command.outputs == OUTPUTS.get(Rmi(fid), ())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_each_condition_label_occurs_once_per_command(module: ModuleType) -> None:
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, ast.FunctionDef):
            labels = [
                node.args[0].value
                for node in ast.walk(function)
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Refusal"
                and isinstance(node.args[0], ast.Constant)
            ]
            assert len(labels) == len(set(labels)), f"{function.name}: {labels}"


def test_unallocated_function_identifiers_are_not_supported() -> None:
    bench = Bench()
    before = bench.snapshot()
    for fid in set(RMI_RANGE) - set(Rmi):
        for hint in (0, SVE_HINT):
            result = bench.call(fid | hint, 1, 2, 3, 4)
            assert (result.x0, result.outputs) == (NOT_SUPPORTED, (0, 0, 0, 0))
    assert bench.snapshot() == before


def test_the_sve_hint_does_not_matter() -> None:
    bench = Bench()
    assert bench.ok(Rmi.VERSION | SVE_HINT, 0x1_0000) == (0x1_0000, 0x1_0000, 0, 0)


def test_registers_that_are_not_inputs_do_not_matter() -> None:
    bench = Bench()
    bench.rmm.on_smc(bench.port, [Rmi.REC_AUX_COUNT, bench.realm(), *[(1 << 64) - 1] * 6])
    assert bench.port.results[-1] == (0, 2, 0, 0, 0)


@pytest.mark.parametrize("req", [0, 1, 0xFFFF, 0x1_0001, 0x2_0000, 1 << 31, 0x1_0000 | 1 << 31, 0x1_0000 | 1 << 63])
def test_version_has_outputs_on_failure(req: int) -> None:
    """attacks 44."""
    result = Bench().call(Rmi.VERSION, req)
    assert (result.code, result.outputs) == ((1, 0), (0x1_0000, 0x1_0000, 0, 0))


def test_feature_register_0_follows_the_platform() -> None:
    bench = Bench()
    value = bench.ok(Rmi.FEATURES, 0)[0]
    table: RegisterTable = FEATURE_REGISTER_0
    fields = {name: table.get(value, name) for name in table.bits}
    assert fields == {
        "S2SZ": 48,
        "LPA2": 0,
        "SVE_EN": 0,
        "SVE_VL": 0,
        "NUM_BPS": 5,
        "NUM_WPS": 3,
        "PMU_EN": 0,
        "PMU_NUM_CTRS": 0,
        "HASH_SHA_256": 1,
        "HASH_SHA_512": 1,
        "GICV3_NUM_LRS": 3,
        "MAX_RECS_ORDER": 10,
    }
    assert value >> 42 == 0
    bench.port.id_registers["ID_AA64DFR0_EL1"] = 0xF << 12 | 0x1 << 20
    assert table.get(bench.ok(Rmi.FEATURES, 0)[0], "NUM_BPS") == 15


@pytest.mark.parametrize("index", [1, 2, 1 << 32, (1 << 64) - 1])
def test_other_feature_registers_read_as_zero(index: int) -> None:
    assert Bench().ok(Rmi.FEATURES, index) == (0, 0, 0, 0)


def test_every_call_takes_time() -> None:
    bench = Bench()
    bench.ok(Rmi.FEATURES, 0)
    bench.call(Rmi.REALM_DESTROY, 1)
    assert bench.port.now() == 2 * CHARGE_RMI


def test_events_tell_what_the_rim_is_made_of() -> None:
    """From the trace alone: parameters, content digests, descriptors, labels of refusals."""
    bench = Bench()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    rd = bench.realm()
    bench.tables(rd, 0)
    bench.ok(Rmi.RTT_INIT_RIPAS, rd, 0x1000, 0x3000)
    content = bytes(range(256)) * 16
    data = bench.delegated()
    bench.ok(Rmi.DATA_CREATE, rd, data, 0x1000, bench.ns(content), 1)
    bench.call(Rmi.DATA_CREATE_UNKNOWN, rd, data, 0x1000)
    calls = [event for event in events if isinstance(event, Call)]
    create = next(call for call in calls if call.fid == Rmi.REALM_CREATE)
    assert create.detail["params"]["s2sz"] == 39
    loaded = next(call for call in calls if call.fid == Rmi.DATA_CREATE)
    assert loaded.arguments["ipa"] == 0x1000
    assert loaded.detail["content"] == hashlib.sha256(content).hexdigest()
    assert (loaded.status, loaded.refused) == ("RMI_SUCCESS", None)
    refused = calls[-1]
    assert (refused.refused, refused.status, refused.detail) == ("data_state", "RMI_ERROR_INPUT", {})
    measured = [event for event in events if isinstance(event, Measured)]
    assert [event.kind for event in measured] == ["REALM", "RIPAS", "RIPAS", "DATA"]
    for event in measured:
        assert hashlib.sha256(event.descriptor).digest() == event.value[:32]
    assert measured[-1].value == bench.rmm.realms[rd].measurements[0]
    changes = [(e.ipa, e.level, e.before, e.after) for e in events if isinstance(e, RttChange)]
    assert changes[-1] == (0x1000, 3, "UNASSIGNED/RAM", f"ASSIGNED/RAM {data:#x}")
    assert GranuleTransition(events[-1].tick - 200, 0, data, "DELEGATED", "DATA") in events


def test_unknown_functions_are_reported() -> None:
    bench = Bench()
    events: list[Event] = []
    bench.port.events.subscribe(events.append)
    bench.call(0xC400_0156)
    (call,) = events
    assert isinstance(call, Call)
    assert (call.name, call.x0, call.refused) == ("0xc4000156", NOT_SUPPORTED, "unknown_function")
