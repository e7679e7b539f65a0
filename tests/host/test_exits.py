"""The RecRun page as the Host uses it, against the layouts of the specification."""

import random
from dataclasses import fields
from typing import Any

import pytest

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import REC_EXIT_OFFSET, RecEnter, RecExit
from realmkit.host.exits import read_exit, write_enter
from realmkit.stack import assemble

_RENAMED = {"exit_reason": "reason", "gicv3_lrs": "lrs", "gicv3_misr": "misr", "gicv3_vmcr": "vmcr"}


def _value(rng: random.Random, name: str) -> Any:
    if name in ("gprs", "gicv3_lrs"):
        return tuple(rng.getrandbits(64) for _ in range(31 if name == "gprs" else 16))
    narrow = {"exit_reason": 8, "ripas_value": 8, "imm": 16}
    return rng.getrandbits(narrow.get(name, 64))


def _records() -> list[RecExit]:
    """Nothing; every field alone; the fields of plain exits; everything."""
    rng = random.Random(1)
    names = [field.name for field in fields(RecExit) if field.name != "pmu_ovf_status"]
    plain = ("exit_reason", "esr", "far", "hpfar", "gicv3_vmcr", "cntp_ctl", "cntp_cval", "cntv_ctl", "cntv_cval")
    return [
        RecExit(),
        *(RecExit(**{name: _value(rng, name)}) for name in names),
        RecExit(**{name: _value(rng, name) for name in plain}),
        RecExit(**{name: _value(rng, name) for name in plain}, gprs=(rng.getrandbits(64), *(0,) * 30)),
        RecExit(gprs=(*(0,) * 30, 1)),
        RecExit(gicv3_lrs=(*(0,) * 15, 1)),
        RecExit(**{name: _value(rng, name) for name in names}),
    ]


@pytest.mark.parametrize("record", _records(), ids=range(len(_records())))
def test_an_exit_is_read_as_the_layout_has_it(record: RecExit) -> None:
    stack = assemble()
    bus, run = stack.host_port().bus, stack.machine.platform.nonsecure_ram()[0].base
    bus.write(Pas.NS, run + REC_EXIT_OFFSET, record.pack())
    found = read_exit(bus, run)
    for name in (field.name for field in fields(RecExit)):
        if name != "pmu_ovf_status":
            assert getattr(found, _RENAMED.get(name, name)) == getattr(record, name), name


@pytest.mark.parametrize(
    ("gprs", "lrs"),
    [
        ((0,) * 31, (0,) * 16),
        ((0x1234_5678_9ABC_DEF0, *(0,) * 30), (0,) * 16),
        ((*(0,) * 30, 7), (0,) * 16),
        ((0,) * 31, (1 << 62, *(0,) * 15)),
        (tuple(range(100, 131)), tuple(range(1, 17))),
    ],
)
def test_an_entry_is_written_as_the_layout_has_it(gprs: tuple[int, ...], lrs: tuple[int, ...]) -> None:
    stack = assemble()
    bus, run = stack.host_port().bus, stack.machine.platform.nonsecure_ram()[0].base
    bus.write(Pas.NS, run, bytes([0xFF]) * RecEnter.SIZE)
    write_enter(bus, run, 0x15, gprs, 0x40FE, lrs)
    assert RecEnter.unpack(bus.read(Pas.NS, run, RecEnter.SIZE)) == RecEnter(0x15, gprs, 0x40FE, lrs)
