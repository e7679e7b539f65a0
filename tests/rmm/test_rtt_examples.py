"""The worked examples of the RTT specification (spec: rtt section 14): one Realm, one line per call."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from realmkit.arch.pas import Pas
from realmkit.arch.rmi import Rmi
from realmkit.arch.vmsa import entry_size
from realmkit.rmm.state import GranuleState
from tests.rmm.fake import RAM_BASE, Bench

SUCCESS, INPUT = (0, 0), (1, 0)
GIB, MIB2 = 1 << 30, 1 << 21
UNPROTECTED = 0x40_0000_0000


def rtt(level: int) -> tuple[int, int]:
    return 4, level


class Example(Bench):
    """w = 39, S = 1: L1[0] -> L2a; L2a[0] -> L3a, [2] ASSIGNED block, [5] -> L3b; L3a[1] and [5] ASSIGNED."""

    def __init__(self) -> None:
        super().__init__()
        self.rd = self.realm()
        self.l2a = self.table(self.rd, 0, 2)
        self.l3a = self.table(self.rd, 0, 3)
        block_table = self.table(self.rd, 0x40_0000, 3)
        self.ok(Rmi.RTT_INIT_RIPAS, self.rd, 0x40_0000, 0x60_0000)
        self.block = self.ns(align=MIB2)
        for page in range(512):
            pa = self.block + page * 0x1000
            self.ok(Rmi.GRANULE_DELEGATE, pa)
            self.ok(Rmi.DATA_CREATE_UNKNOWN, self.rd, pa, 0x40_0000 + page * 0x1000)
        self._next = self.block + MIB2
        assert self.ok(Rmi.RTT_FOLD, self.rd, 0x40_0000, 3)[0] == block_table
        self.l3b = self.table(self.rd, 0xA0_0000, 3)
        for ipa in (0x1000, 0x5000):
            self.ok(Rmi.RTT_INIT_RIPAS, self.rd, ipa, ipa + 0x1000)
        self.first_page = self.page(self.rd, 0x1000)
        self.second_page = self.page(self.rd, 0x5000)
        self.spare = self.delegated()

    def entry(self, ipa: int, level: int) -> tuple[int, int, int, int]:
        return self.ok(Rmi.RTT_READ_ENTRY, self.rd, ipa & -entry_size(level), level)


@dataclass(frozen=True)
class Line:
    """A call with symbolic granules, its result, its outputs (None: not defined) and what holds afterwards."""

    name: str
    fid: Rmi
    arguments: Callable[[Example], tuple[int, ...]]
    code: tuple[int, int]
    outputs: Callable[[Example], tuple[int, ...]] = lambda _: ()
    after: Callable[[Example], bool] = lambda _: True


def _destroy(
    ipa: int,
    code: tuple[int, int],
    top: int,
    data: Callable[[Example], int] = lambda _: 0,
    after: Callable[[Example], bool] = lambda _: True,
) -> Line:
    """DATA_DESTROY; ``data`` is the page that it must give back."""
    return Line(
        f"DATA_DESTROY({ipa:#x})", Rmi.DATA_DESTROY, lambda e: (e.rd, ipa), code, lambda e: (data(e), top), after
    )


LINES = [
    _destroy(0x1000, SUCCESS, 0x5000, lambda e: e.first_page, lambda e: e.entry(0x1000, 3) == (3, 0, 0, 2)),
    _destroy(0x2000, rtt(3), 0x5000),
    _destroy(0x5000, SUCCESS, 0x20_0000, lambda e: e.second_page),
    _destroy(0x20_0000, rtt(2), 0x40_0000),
    _destroy(0x40_3000, rtt(2), 0x40_3000),
    _destroy(0x60_0000, rtt(2), 0xA0_0000),
    _destroy(0x4000_0000, rtt(1), 0x80_0000_0000),
    Line(
        "RTT_DESTROY(0xA0_0000, 3)",
        Rmi.RTT_DESTROY,
        lambda e: (e.rd, 0xA0_0000, 3),
        SUCCESS,
        lambda e: (e.l3b, 0x4000_0000),
        lambda e: e.entry(0xA0_0000, 3) == (2, 0, 0, 2) and e.rmm.granules.state(e.l3b) is GranuleState.DELEGATED,
    ),
    Line("RTT_DESTROY(0, 3)", Rmi.RTT_DESTROY, lambda e: (e.rd, 0, 3), rtt(3), lambda e: (0, 0)),
    Line(
        "RTT_DESTROY(0x40_0000, 3)",
        Rmi.RTT_DESTROY,
        lambda e: (e.rd, 0x40_0000, 3),
        rtt(2),
        lambda e: (0, 0x40_0000),
    ),
    Line(
        "RTT_DESTROY(0x4000_0000, 2)",
        Rmi.RTT_DESTROY,
        lambda e: (e.rd, 0x4000_0000, 2),
        rtt(1),
        lambda e: (0, 0x80_0000_0000),
    ),
    Line("RTT_DESTROY(0, 1)", Rmi.RTT_DESTROY, lambda e: (e.rd, 0, 1), INPUT, lambda e: (0, 0)),
    Line(
        "RTT_FOLD(0xA0_0000, 3)",
        Rmi.RTT_FOLD,
        lambda e: (e.rd, 0xA0_0000, 3),
        SUCCESS,
        lambda e: (e.l3b,),
        lambda e: e.entry(0xA0_0000, 3) == (2, 0, 0, 0),
    ),
    Line("RTT_FOLD(0, 3)", Rmi.RTT_FOLD, lambda e: (e.rd, 0, 3), rtt(3)),
    Line(
        "RTT_CREATE(g, 0x40_0000, 3)",
        Rmi.RTT_CREATE,
        lambda e: (e.rd, e.spare, 0x40_0000, 3),
        SUCCESS,
        lambda e: (),
        lambda e: all(
            e.entry(0x40_0000 + i * 0x1000, 3) == (3, 1, e.block + i * 0x1000, 1) for i in (0, 1, 255, 510, 511)
        ),
    ),
    Line("RTT_CREATE(g, 0xA0_0000, 3)", Rmi.RTT_CREATE, lambda e: (e.rd, e.spare, 0xA0_0000, 3), rtt(2)),
    Line("RTT_CREATE(g, 0x4000_0000, 3)", Rmi.RTT_CREATE, lambda e: (e.rd, e.spare, 0x4000_0000, 3), rtt(1)),
    Line(
        "DATA_CREATE_UNKNOWN(g, 0x60_0000)",
        Rmi.DATA_CREATE_UNKNOWN,
        lambda e: (e.rd, e.spare, 0x60_0000),
        rtt(2),
    ),
    Line(
        "INIT_RIPAS(0x60_0000, 0x100_0000)",
        Rmi.RTT_INIT_RIPAS,
        lambda e: (e.rd, 0x60_0000, 0x100_0000),
        SUCCESS,
        lambda e: (0xA0_0000,),
        lambda e: e.entry(0x60_0000, 2)[3] == e.entry(0x80_0000, 2)[3] == 1 and e.entry(0xC0_0000, 2)[3] == 0,
    ),
    Line("INIT_RIPAS(0x60_0000, 0x60_1000)", Rmi.RTT_INIT_RIPAS, lambda e: (e.rd, 0x60_0000, 0x60_1000), rtt(2)),
    Line("INIT_RIPAS(0x60_1000, 0x80_0000)", Rmi.RTT_INIT_RIPAS, lambda e: (e.rd, 0x60_1000, 0x80_0000), rtt(2)),
    Line(
        "READ_ENTRY(0x40_1000, 3)",
        Rmi.RTT_READ_ENTRY,
        lambda e: (e.rd, 0x40_1000, 3),
        SUCCESS,
        lambda e: (2, 1, e.block, 1),
    ),
    Line("READ_ENTRY(0, 2)", Rmi.RTT_READ_ENTRY, lambda e: (e.rd, 0, 2), SUCCESS, lambda e: (2, 2, e.l3a)),
    Line(
        "MAP_UNPROTECTED(0x40_0000_0000, 1, 1 GB)",
        Rmi.RTT_MAP_UNPROTECTED,
        lambda e: (e.rd, UNPROTECTED, 1, RAM_BASE | 0xD8),
        SUCCESS,
        lambda e: (),
        lambda e: e.entry(UNPROTECTED, 1) == (1, 1, RAM_BASE | 0xD8, 0),
    ),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_worked_example(line: Line) -> None:
    example = Example()
    result = example.call(line.fid, *line.arguments(example))
    assert result.code == line.code
    outputs = line.outputs(example)
    assert result.outputs == outputs + (0,) * (4 - len(outputs))
    assert line.after(example)


def test_worked_examples_of_an_unprotected_block() -> None:
    example = Example()
    example.ok(Rmi.RTT_MAP_UNPROTECTED, example.rd, UNPROTECTED, 1, RAM_BASE | 0xD8)
    unmap = example.call(Rmi.RTT_UNMAP_UNPROTECTED, example.rd, UNPROTECTED, 3)
    assert (unmap.code, unmap.outputs[0]) == (rtt(1), UNPROTECTED)
    example.ok(Rmi.RTT_CREATE, example.rd, example.spare, UNPROTECTED, 2)
    for slot in (0, 1, 511):
        expected = (2, 1, RAM_BASE + slot * MIB2 | 0xD8, 0)
        assert example.entry(UNPROTECTED + slot * MIB2, 2) == expected


def test_two_measurement_steps_of_an_init_ripas_that_stops_at_a_table() -> None:
    example, twin = Example(), Example()
    example.ok(Rmi.RTT_INIT_RIPAS, example.rd, 0x60_0000, 0x100_0000)
    twin.ok(Rmi.RTT_INIT_RIPAS, twin.rd, 0x60_0000, 0x80_0000)
    twin.ok(Rmi.RTT_INIT_RIPAS, twin.rd, 0x80_0000, 0xA0_0000)
    measured = example.rmm.realms[example.rd].measurements[0]
    assert measured == twin.rmm.realms[twin.rd].measurements[0]
    assert measured != Example().rmm.realms[example.rd].measurements[0]


def test_descriptors_are_those_of_the_architecture() -> None:
    example = Example()
    example.ok(Rmi.RTT_MAP_UNPROTECTED, example.rd, UNPROTECTED, 1, RAM_BASE | 0xD8)
    read = example.bus.read64
    root = example.rmm.realms[example.rd].rtt_base
    page = example.entry(0x1000, 3)[2]
    assert read(Pas.REALM, root) == example.l2a | 0x3
    assert read(Pas.REALM, example.l2a + 2 * 8) == example.block | 0x7D9
    assert read(Pas.REALM, example.l3a + 8) == page | 0x7DB
    assert read(Pas.REALM, root + 256 * 8) == RAM_BASE | 0x00C0_0000_0000_07D9
    assert all(not read(Pas.REALM, root + slot * 8) & 1 for slot in range(1, 512) if slot != 256)
