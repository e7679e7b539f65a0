"""Every failure condition of the commands on granules, Realms, RTTs and data, by its label (spec: rmi section 6).

``VALID`` holds one accepted call per command; each case changes one thing in it. A refused call must report its code,
its label and zeros (or "top"), and change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from realmkit.arch.pas import Gpi
from realmkit.arch.rmi import INPUTS, Ripas, Rmi
from realmkit.rmm.state import GranuleState, RealmState, RipasRequest
from tests.rmm.fake import DEVICE, HIGH_BASE, RAM_BASE, RAM_SIZE, Bench

INPUT, REALM, REC = (1, 0), (2, 0), (3, 0)
MIB2, GIB, GIB512 = 1 << 21, 1 << 30, 1 << 39
WIDTH = 44
UNPROTECTED = 1 << WIDTH - 1
OUTSIDE = 1 << WIDTH
DESC = RAM_BASE | 0xD8
MINUS_ONE = -1


def rtt(level: int) -> tuple[int, int]:
    return 4, level


class World(Bench):
    """A Realm in state NEW that starts at level 0, with entries of every state, and granules of every state."""

    def __init__(self) -> None:
        super().__init__()
        self.rd = self.realm(WIDTH, 0)
        self.tables(self.rd, 0)
        self.tables(self.rd, UNPROTECTED)
        self.l3 = self.ok(Rmi.RTT_READ_ENTRY, self.rd, 0, 2)[2]
        self.ok(Rmi.RTT_INIT_RIPAS, self.rd, 0x1000, 0x2000)
        self.data = self.page(self.rd, 0x1000)  # ASSIGNED, RAM
        self.page(self.rd, 0x4000)  # ASSIGNED, EMPTY
        self.empty_table = self.table(self.rd, 0x20_0000, 3)
        self.table(self.rd, 0x60_0000, 3)
        self.page(self.rd, 0x60_0000)
        self.ok(Rmi.RTT_MAP_UNPROTECTED, self.rd, UNPROTECTED + 0x1000, 3, DESC)
        self.rec_pa = self.rec(self.rd)
        self.rmm.recs[self.rec_pa].ripas = RipasRequest(0x2000, 0x20_0000, Ripas.RAM, change_destroyed=False)
        self.other_rd = self.realm(vmid=2)
        self.other_rec = self.rec(self.other_rd)
        self.free = self.delegated()
        self.aux = self.delegated()
        self.rmm.granules.take(self.port, self.aux, GranuleState.REC_AUX)
        self.src = self.ns(bytes(range(256)) * 16)
        self.new_rd = self.delegated()
        self.new_rtts = self.delegated(align=2 * 0x1000)
        self.delegated()
        self.params_pa = self.ns()
        self.set_params()
        self.secure = self.ns()
        self.bus.gpt[self.secure] = Gpi.SECURE
        self.spare = self.ns()

    def set_params(self, **fields: int | bytes) -> None:
        """Parameters of a Realm with two starting tables."""
        params = self.params(self.new_rtts, 40, 1, 2, vmid=3)
        for name, value in fields.items():
            setattr(params, name, value)
        self.write_ns(self.params_pa, params.pack())

    def granule(self, state: GranuleState) -> int:
        return {
            GranuleState.UNDELEGATED: self.spare,
            GranuleState.DELEGATED: self.free,
            GranuleState.RD: self.rd,
            GranuleState.REC: self.rec_pa,
            GranuleState.REC_AUX: self.aux,
            GranuleState.DATA: self.data,
            GranuleState.RTT: self.l3,
        }[state]


Arguments = Callable[[World], tuple[int, ...]]

VALID: dict[Rmi, Arguments] = {
    Rmi.GRANULE_DELEGATE: lambda w: (w.spare,),
    Rmi.GRANULE_UNDELEGATE: lambda w: (w.free,),
    Rmi.REALM_CREATE: lambda w: (w.new_rd, w.params_pa),
    Rmi.REALM_ACTIVATE: lambda w: (w.rd,),
    Rmi.REALM_DESTROY: lambda w: (w.realm(vmid=9),),
    Rmi.REC_AUX_COUNT: lambda w: (w.rd,),
    Rmi.RTT_CREATE: lambda w: (w.rd, w.free, 0x40_0000, 3),
    Rmi.RTT_DESTROY: lambda w: (w.rd, 0x20_0000, 3),
    Rmi.RTT_FOLD: lambda w: (w.rd, 0x20_0000, 3),
    Rmi.RTT_READ_ENTRY: lambda w: (w.rd, 0x1000, 3),
    Rmi.RTT_MAP_UNPROTECTED: lambda w: (w.rd, UNPROTECTED, 3, DESC),
    Rmi.RTT_UNMAP_UNPROTECTED: lambda w: (w.rd, UNPROTECTED + 0x1000, 3),
    Rmi.DATA_CREATE: lambda w: (w.rd, w.free, 0x2000, w.src, 1),
    Rmi.DATA_CREATE_UNKNOWN: lambda w: (w.rd, w.free, 0x2000),
    Rmi.DATA_DESTROY: lambda w: (w.rd, 0x1000),
    Rmi.RTT_INIT_RIPAS: lambda w: (w.rd, 0x2000, 0x4000),
    Rmi.RTT_SET_RIPAS: lambda w: (w.rd, w.rec_pa, 0x2000, 0x4000),
}


@dataclass(frozen=True)
class Case:
    """One refusal: which input of the valid call changes (or what happens to the world before), and the result."""

    fid: Rmi
    label: str
    code: tuple[int, int]
    change: dict[str, "int | Callable[[World], int]"]
    setup: Callable[[World], None] = lambda _: None
    top: int | None = None

    def __str__(self) -> str:
        changed = ",".join(f"{k}={v:#x}" if isinstance(v, int) else k for k, v in self.change.items())
        return f"{self.fid.name}-{self.label}-{changed}"


def activate(world: World) -> None:
    world.rmm.realms[world.rd].state = RealmState.ACTIVE


def system_off(world: World) -> None:
    world.rmm.realms[world.rd].state = RealmState.SYSTEM_OFF


def params(**fields: int | bytes) -> Callable[[World], None]:
    return lambda world: world.set_params(**fields)


def request(destroyed: bool = False, addr: int = 0x2000, top: int = 1 << 30) -> Callable[[World], None]:
    def setup(world: World) -> None:
        world.rmm.recs[world.rec_pa].ripas = RipasRequest(addr, top, Ripas.RAM, destroyed)

    return setup


def destroy_page(world: World) -> None:
    world.ok(Rmi.DATA_DESTROY, world.rd, 0x1000)


def no_request(world: World) -> None:
    world.rmm.recs[world.rec_pa].ripas = None


def run(world: World) -> None:
    world.rmm.recs[world.rec_pa].running = True


def high(world: World) -> None:
    world.ok(Rmi.GRANULE_DELEGATE, HIGH_BASE)


def high_tables(world: World) -> None:
    high(world)
    world.ok(Rmi.GRANULE_DELEGATE, HIGH_BASE + 0x1000)
    world.set_params(rtt_base=HIGH_BASE)


def undelegated_table(world: World) -> None:
    world.ok(Rmi.GRANULE_UNDELEGATE, world.new_rtts + 0x1000)


def destroyed_request(world: World) -> None:
    destroy_page(world)
    request(addr=0x1000)(world)


def set_gpi(granule: str, gpi: Gpi) -> Callable[[World], None]:
    def setup(world: World) -> None:
        world.bus.gpt[getattr(world, granule)] = gpi

    return setup


TABLE_PLACE = (Rmi.RTT_CREATE, Rmi.RTT_DESTROY, Rmi.RTT_FOLD)
LEAF_PLACE = (Rmi.RTT_MAP_UNPROTECTED, Rmi.RTT_UNMAP_UNPROTECTED)
CREATE = (Rmi.DATA_CREATE, Rmi.DATA_CREATE_UNKNOWN)
BOTH_STATES = (activate, system_off)

CASES = [
    Case(Rmi.GRANULE_DELEGATE, "gran_gpt", INPUT, {}, set_gpi("spare", Gpi.SECURE)),
    Case(Rmi.GRANULE_DELEGATE, "gran_gpt", INPUT, {}, set_gpi("spare", Gpi.ROOT)),
    Case(Rmi.GRANULE_DELEGATE, "gran_gpt", INPUT, {}, set_gpi("spare", Gpi.REALM)),
    # REALM_CREATE
    Case(Rmi.REALM_CREATE, "params_pas", INPUT, {}, set_gpi("params_pa", Gpi.ROOT)),
    *(Case(Rmi.REALM_CREATE, "params_valid", INPUT, {}, params(**{n: 0})) for n in ("num_bps", "num_wps")),
    Case(Rmi.REALM_CREATE, "params_valid", INPUT, {}, params(hash_algo=2)),
    Case(Rmi.REALM_CREATE, "params_valid", INPUT, {}, params(hash_algo=255)),
    Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(flags=1)),
    Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(flags=2)),
    Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(flags=4)),
    *(Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(s2sz=w)) for w in (0, 31, 49, 52, 255)),
    Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(num_bps=6)),
    Case(Rmi.REALM_CREATE, "params_supp", INPUT, {}, params(num_wps=4)),
    *(Case(Rmi.REALM_CREATE, "rtt_num_level", INPUT, {}, params(rtt_num_start=n)) for n in (0, 1, 3, 16, 0xFFFF_FFFF)),
    *(Case(Rmi.REALM_CREATE, "rtt_num_level", INPUT, {}, params(rtt_level_start=n)) for n in (-1, 0, 2, 3, -(1 << 63))),
    Case(Rmi.REALM_CREATE, "vmid_valid", INPUT, {}, params(vmid=1)),
    Case(Rmi.REALM_CREATE, "vmid_valid", INPUT, {}, params(vmid=0x100)),
    Case(Rmi.REALM_CREATE, "alias", INPUT, {}, lambda w: w.set_params(rtt_base=w.new_rd & ~0x1FFF)),
    Case(Rmi.REALM_CREATE, "alias", INPUT, {}, lambda w: w.set_params(rtt_base=w.new_rd)),
    Case(Rmi.REALM_CREATE, "rtt_align", INPUT, {}, lambda w: w.set_params(rtt_base=w.new_rtts + 0x1000)),
    Case(Rmi.REALM_CREATE, "rtt_align", INPUT, {}, lambda w: w.set_params(rtt_base=w.new_rtts + 8)),
    Case(Rmi.REALM_CREATE, "rtt_bound", INPUT, {}, params(rtt_base=DEVICE & ~0x1FFF)),
    Case(Rmi.REALM_CREATE, "rtt_bound", INPUT, {}, params(rtt_base=(1 << 64) - 0x2000)),
    Case(Rmi.REALM_CREATE, "rtt_bound", INPUT, {}, params(rtt_base=RAM_BASE + RAM_SIZE)),
    Case(Rmi.REALM_CREATE, "rtt_state", INPUT, {}, undelegated_table),
    Case(Rmi.REALM_CREATE, "rtt_bound2", INPUT, {}, high_tables),
    # Realm state
    *(
        Case(fid, "realm_state", REALM, {}, setup)
        for fid in (Rmi.REALM_ACTIVATE, Rmi.DATA_CREATE, Rmi.RTT_INIT_RIPAS)
        for setup in BOTH_STATES
    ),
    Case(Rmi.REALM_DESTROY, "realm_live", REALM, {"rd": lambda w: w.rd}),
    # Places of tables
    *(Case(fid, "level_bound", INPUT, {"level": n}) for fid in TABLE_PLACE for n in (0, 4, MINUS_ONE, 1 << 62)),
    *(Case(fid, "ipa_bound", INPUT, {"ipa": OUTSIDE}) for fid in TABLE_PLACE),
    *(Case(fid, "ipa_bound", INPUT, {"ipa": MINUS_ONE & -MIB2}) for fid in TABLE_PLACE),
    *(Case(fid, "ipa_align", INPUT, {"ipa": 0x20_1000}) for fid in TABLE_PLACE),
    *(Case(fid, "ipa_align", INPUT, {"ipa": 0x20_0000, "level": 2}) for fid in TABLE_PLACE),
    Case(Rmi.RTT_CREATE, "rtt_bound2", INPUT, {"rtt": HIGH_BASE}, high),
    Case(Rmi.RTT_CREATE, "rtt_walk", rtt(1), {"ipa": GIB, "level": 3}),
    Case(Rmi.RTT_CREATE, "rtt_walk", rtt(0), {"ipa": GIB512, "level": 3}),
    Case(Rmi.RTT_CREATE, "rtte_state", rtt(1), {"ipa": 0, "level": 2}),
    Case(Rmi.RTT_CREATE, "rtte_state", rtt(2), {"ipa": 0}),
    Case(Rmi.RTT_DESTROY, "rtt_walk", rtt(1), {"ipa": GIB}, top=GIB512),
    Case(Rmi.RTT_DESTROY, "rtt_walk", rtt(0), {"ipa": GIB512}, top=UNPROTECTED),
    Case(Rmi.RTT_DESTROY, "rtte_state", rtt(2), {"ipa": 0x40_0000}, top=0x60_0000),
    Case(Rmi.RTT_DESTROY, "rtt_live", rtt(3), {"ipa": 0}, top=0),
    Case(Rmi.RTT_DESTROY, "rtt_live", rtt(2), {"ipa": 0, "level": 2}, top=0),
    Case(Rmi.RTT_FOLD, "rtt_walk", rtt(0), {"ipa": GIB512}),
    Case(Rmi.RTT_FOLD, "rtte_state", rtt(2), {"ipa": 0x40_0000}),
    Case(Rmi.RTT_FOLD, "rtt_homo", rtt(3), {"ipa": 0}),
    Case(Rmi.RTT_FOLD, "rtt_homo", rtt(2), {"ipa": 0, "level": 2}),
    Case(Rmi.RTT_FOLD, "rtt_homo", rtt(3), {"ipa": UNPROTECTED}),
    # READ_ENTRY
    *(Case(Rmi.RTT_READ_ENTRY, "level_bound", INPUT, {"level": n}) for n in (MINUS_ONE, 4)),
    Case(Rmi.RTT_READ_ENTRY, "ipa_bound", INPUT, {"ipa": OUTSIDE}),
    Case(Rmi.RTT_READ_ENTRY, "ipa_align", INPUT, {"ipa": 0x1001}),
    Case(Rmi.RTT_READ_ENTRY, "ipa_align", INPUT, {"ipa": 0x1000, "level": 2}),
    # Unprotected mappings
    *(Case(fid, "level_bound", INPUT, {"level": n}) for fid in LEAF_PLACE for n in (0, 4, MINUS_ONE)),
    *(Case(fid, "ipa_align", INPUT, {"ipa": UNPROTECTED + 8}) for fid in LEAF_PLACE),
    *(Case(fid, "ipa_align", INPUT, {"ipa": UNPROTECTED + 0x1000, "level": 2}) for fid in (Rmi.RTT_UNMAP_UNPROTECTED,)),
    *(Case(fid, "ipa_bound", INPUT, {"ipa": ipa}) for fid in LEAF_PLACE for ipa in (0, UNPROTECTED - 0x1000, OUTSIDE)),
    *(
        Case(Rmi.RTT_MAP_UNPROTECTED, "attr_valid", INPUT, {"desc": DESC | 1 << bit})
        for bit in (0, 1, 5, 8, 9, 10, 11, *range(50, 64))
    ),
    Case(Rmi.RTT_MAP_UNPROTECTED, "attr_valid", INPUT, {"desc": RAM_BASE | 0xC0 | 4 << 2}),
    Case(Rmi.RTT_MAP_UNPROTECTED, "addr_align", INPUT, {"desc": DESC | 0x1000, "level": 2}),
    Case(Rmi.RTT_MAP_UNPROTECTED, "addr_align", INPUT, {"desc": DESC | MIB2, "level": 1}),
    *(Case(Rmi.RTT_MAP_UNPROTECTED, "addr_bound", INPUT, {"desc": DESC | 1 << bit}) for bit in (48, 49)),
    Case(Rmi.RTT_MAP_UNPROTECTED, "rtt_walk", rtt(2), {"ipa": UNPROTECTED + MIB2}),
    Case(Rmi.RTT_MAP_UNPROTECTED, "rtte_state", rtt(3), {"ipa": UNPROTECTED + 0x1000}),
    Case(Rmi.RTT_MAP_UNPROTECTED, "rtte_state", rtt(2), {"level": 2}),
    Case(Rmi.RTT_UNMAP_UNPROTECTED, "rtt_walk", rtt(2), {"ipa": UNPROTECTED + MIB2}, top=UNPROTECTED + GIB),
    Case(Rmi.RTT_UNMAP_UNPROTECTED, "rtte_state", rtt(3), {"ipa": UNPROTECTED}, top=UNPROTECTED + 0x1000),
    Case(Rmi.RTT_UNMAP_UNPROTECTED, "rtte_state", rtt(2), {"ipa": UNPROTECTED, "level": 2}, top=UNPROTECTED),
    # Data
    *(Case(Rmi.DATA_CREATE, "flags_valid", INPUT, {"flags": n}) for n in (2, 3, 1 << 63)),
    Case(Rmi.DATA_CREATE, "src_pas", INPUT, {}, set_gpi("src", Gpi.SECURE)),
    Case(Rmi.DATA_CREATE, "src_pas", INPUT, {}, set_gpi("src", Gpi.REALM)),
    *(Case(fid, "ipa_bound", INPUT, {"ipa": ipa}) for fid in CREATE for ipa in (UNPROTECTED, OUTSIDE, MINUS_ONE)),
    *(Case(fid, "ipa_align", INPUT, {"ipa": 0x2008}) for fid in CREATE),
    *(Case(fid, "data_bound2", INPUT, {"data": HIGH_BASE}, high) for fid in CREATE),
    *(Case(fid, "rtt_walk", rtt(2), {"ipa": 0x40_0000}) for fid in CREATE),
    *(Case(fid, "rtt_walk", rtt(0), {"ipa": GIB512}) for fid in CREATE),
    *(Case(fid, "rtte_state", rtt(3), {"ipa": ipa}) for fid in CREATE for ipa in (0x1000, 0x4000)),
    *(Case(Rmi.DATA_DESTROY, "ipa_bound", INPUT, {"ipa": ipa}) for ipa in (UNPROTECTED, OUTSIDE, MINUS_ONE)),
    Case(Rmi.DATA_DESTROY, "ipa_align", INPUT, {"ipa": 0x1800}),
    Case(Rmi.DATA_DESTROY, "rtt_walk", rtt(2), {"ipa": 0x40_0000}, top=0x60_0000),
    Case(Rmi.DATA_DESTROY, "rtte_state", rtt(3), {"ipa": 0x2000}, top=0x4000),
    Case(Rmi.DATA_DESTROY, "rtte_state", rtt(3), {"ipa": 0x5000}, top=0x20_0000),
    # RIPAS
    *(Case(Rmi.RTT_INIT_RIPAS, "size_valid", INPUT, {"top": top}) for top in (0x2000, 0x1000, 0)),
    Case(Rmi.RTT_INIT_RIPAS, "top_gran_align", INPUT, {"top": 0x2800}),
    Case(Rmi.RTT_INIT_RIPAS, "top_bound", INPUT, {"base": UNPROTECTED - 0x1000, "top": UNPROTECTED + 0x1000}),
    Case(Rmi.RTT_INIT_RIPAS, "top_bound", INPUT, {"top": MINUS_ONE & -0x1000}),
    Case(Rmi.RTT_INIT_RIPAS, "base_align", rtt(2), {"base": 0x40_1000, "top": 0x60_0000}),
    Case(Rmi.RTT_INIT_RIPAS, "base_align", rtt(3), {"base": 0x2800}),
    Case(Rmi.RTT_INIT_RIPAS, "rtte_state", rtt(3), {"base": 0x1000}),
    Case(Rmi.RTT_INIT_RIPAS, "no_progress", rtt(2), {"base": 0x40_0000, "top": 0x40_1000}),
    Case(Rmi.RTT_INIT_RIPAS, "no_progress", rtt(3), {"base": 0x1000}, destroy_page),
    *(Case(Rmi.RTT_SET_RIPAS, "size_valid", INPUT, {"top": top}) for top in (0x2000, 0)),
    Case(Rmi.RTT_SET_RIPAS, "top_gran_align", INPUT, {"top": 0x2800}),
    Case(Rmi.RTT_SET_RIPAS, "rec_state", REC, {}, run),
    Case(Rmi.RTT_SET_RIPAS, "rec_owner", REC, {"rec": lambda w: w.other_rec}),
    Case(Rmi.RTT_SET_RIPAS, "base_bound", INPUT, {"base": 0x3000}),
    Case(Rmi.RTT_SET_RIPAS, "base_bound", INPUT, {}, no_request),
    Case(Rmi.RTT_SET_RIPAS, "top_bound", INPUT, {"top": 0x20_1000}),
    Case(Rmi.RTT_SET_RIPAS, "top_bound", INPUT, {"base": 0}, no_request),
    Case(Rmi.RTT_SET_RIPAS, "base_align", rtt(2), {"base": 0x40_1000, "top": 0x60_0000}, request(addr=0x40_1000)),
    Case(Rmi.RTT_SET_RIPAS, "no_progress", rtt(2), {"base": 0x40_0000, "top": 0x40_1000}, request(addr=0x40_0000)),
    Case(Rmi.RTT_SET_RIPAS, "no_progress", rtt(3), {"base": 0x1000}, destroyed_request),
]


GRANULES = [
    *(
        (fid, "addr", "gran", None, state)
        for fid, state in (
            (Rmi.GRANULE_DELEGATE, GranuleState.UNDELEGATED),
            (Rmi.GRANULE_UNDELEGATE, GranuleState.DELEGATED),
        )
    ),
    *((fid, "rd", "rd", None, GranuleState.RD) for fid in VALID if "rd" in INPUTS[fid] and fid is not Rmi.REALM_CREATE),
    (Rmi.REALM_CREATE, "rd", "rd", None, GranuleState.DELEGATED),
    (Rmi.RTT_CREATE, "rtt", "rtt", None, GranuleState.DELEGATED),
    *((fid, "data", "data", None, GranuleState.DELEGATED) for fid in CREATE),
    (Rmi.RTT_SET_RIPAS, "rec", "rec", "rec_gran_state", GranuleState.REC),
]
"""Inputs that name a granule: command, input, prefix of the labels, label of a wrong state, required state."""

UNALIGNED = (1, 8, 0x800, 0xFFF)
OUT_OF_BOUND = (0, DEVICE, RAM_BASE - 0x1000, RAM_BASE + RAM_SIZE, 1 << 52, (1 << 64) - 0x1000)


def refuse(world: World, fid: Rmi, arguments: tuple[int, ...], label: str, code: tuple[int, int]) -> tuple[int, ...]:
    before = world.snapshot()
    result = world.call(fid, *arguments)
    assert (result.label, result.code) == (label, code)
    assert world.snapshot() == before
    return result.outputs


def changed(fid: Rmi, arguments: tuple[int, ...], name: str, value: int) -> tuple[int, ...]:
    position = INPUTS[fid].index(name)
    return (*arguments[:position], value, *arguments[position + 1 :])


@pytest.mark.parametrize("fid", VALID, ids=lambda fid: fid.name)
def test_the_valid_call_is_accepted(fid: Rmi) -> None:
    world = World()
    world.ok(fid, *VALID[fid](world))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_condition(case: Case) -> None:
    world = World()
    case.setup(world)
    arguments = VALID[case.fid](world)
    for name, value in case.change.items():
        arguments = changed(case.fid, arguments, name, value if isinstance(value, int) else value(world))
    outputs = refuse(world, case.fid, arguments, case.label, case.code)
    expected = [0] * 4
    if case.top is not None:
        expected[0 if case.fid is Rmi.RTT_UNMAP_UNPROTECTED else 1] = case.top
    assert outputs == tuple(expected)


@pytest.mark.parametrize(
    ("fid", "name", "prefix", "state_label", "required"), GRANULES, ids=lambda v: getattr(v, "name", v)
)
def test_granule_argument(fid: Rmi, name: str, prefix: str, state_label: str | None, required: GranuleState) -> None:
    world = World()
    arguments = VALID[fid](world)
    valid = arguments[INPUTS[fid].index(name)]
    for offset in UNALIGNED:
        refuse(world, fid, changed(fid, arguments, name, valid + offset), f"{prefix}_align", INPUT)
    for pa in OUT_OF_BOUND:
        refuse(world, fid, changed(fid, arguments, name, pa), f"{prefix}_bound", INPUT)
    for state in GranuleState:
        if state is not required:
            wrong = changed(fid, arguments, name, world.granule(state))
            refuse(world, fid, wrong, state_label or f"{prefix}_state", INPUT)


@pytest.mark.parametrize(
    ("fid", "name", "prefix"), [(Rmi.REALM_CREATE, "params_ptr", "params"), (Rmi.DATA_CREATE, "src", "src")]
)
def test_non_secure_buffer_argument(fid: Rmi, name: str, prefix: str) -> None:
    world = World()
    arguments = VALID[fid](world)
    valid = arguments[INPUTS[fid].index(name)]
    for offset in UNALIGNED:
        refuse(world, fid, changed(fid, arguments, name, valid + offset), f"{prefix}_align", INPUT)
    for pa in OUT_OF_BOUND:
        refuse(world, fid, changed(fid, arguments, name, pa), f"{prefix}_bound", INPUT)
    held = [world.granule(state) for state in GranuleState if state is not GranuleState.UNDELEGATED]
    for pa in (*held, world.secure):
        refuse(world, fid, changed(fid, arguments, name, pa), f"{prefix}_pas", INPUT)


@pytest.mark.parametrize("fid", [fid for fid in VALID if len([n for n in INPUTS[fid] if n != "level"]) > 1])
def test_one_granule_in_two_roles_is_refused(fid: Rmi) -> None:
    """attacks 11: a granule that aliases the RD, the table or the source must give RMI_ERROR_INPUT, not a deadlock."""
    names = [name for name in INPUTS[fid] if name in ("rd", "rtt", "data", "src", "rec", "params_ptr")]
    for first in names:
        for second in names:
            if first != second:
                world = World()
                arguments = VALID[fid](world)
                value = arguments[INPUTS[fid].index(first)]
                before = world.snapshot()
                assert world.call(fid, *changed(fid, arguments, second, value)).code == INPUT
                assert world.snapshot() == before


ORDER = [
    # two faults at once: the first wins (spec: rmi section 5)
    (Rmi.DATA_CREATE, {"ipa": UNPROTECTED + MIB2}, None, "ipa_bound"),
    (Rmi.DATA_CREATE, {"ipa": UNPROTECTED}, activate, "realm_state"),
    (Rmi.DATA_CREATE, {"ipa": 0x40_0000}, activate, "realm_state"),
    (Rmi.DATA_CREATE, {"ipa": 0x40_0000}, set_gpi("src", Gpi.SECURE), "rtt_walk"),
    (Rmi.DATA_CREATE_UNKNOWN, {"ipa": UNPROTECTED + MIB2}, None, "ipa_bound"),
    (Rmi.DATA_DESTROY, {"ipa": UNPROTECTED + MIB2}, None, "ipa_bound"),
    (Rmi.RTT_FOLD, {"ipa": GIB, "level": 4}, None, "level_bound"),
    (Rmi.RTT_UNMAP_UNPROTECTED, {"ipa": UNPROTECTED + MIB2, "level": 4}, None, "level_bound"),
    (Rmi.RTT_UNMAP_UNPROTECTED, {"ipa": 0x40_0000}, None, "ipa_bound"),
    (Rmi.RTT_INIT_RIPAS, {"base": 0x40_0000, "top": 0x40_0800}, None, "top_gran_align"),
    (Rmi.RTT_INIT_RIPAS, {"top": 0x2800}, activate, "top_gran_align"),
    (Rmi.RTT_INIT_RIPAS, {"base": 0x1000}, activate, "realm_state"),
    (Rmi.RTT_SET_RIPAS, {"base": 0x40_0000, "top": 0x40_0800}, request(addr=0x40_0000), "top_gran_align"),
    (Rmi.RTT_SET_RIPAS, {"base": 0x40_1000, "top": 0x60_0000}, None, "base_bound"),
    (Rmi.RTT_SET_RIPAS, {"base": 0x3000}, run, "rec_state"),
]


@pytest.mark.parametrize(("fid", "change", "setup", "label"), ORDER)
def test_order_of_conditions(
    fid: Rmi, change: dict[str, int], setup: Callable[[World], None] | None, label: str
) -> None:
    world = World()
    if setup:
        setup(world)
    arguments = VALID[fid](world)
    for name, value in change.items():
        arguments = changed(fid, arguments, name, value)
    assert world.call(fid, *arguments).label == label


def test_every_state_but_new_permits_the_rest() -> None:
    """Only REALM_ACTIVATE, REC_CREATE, DATA_CREATE and RTT_INIT_RIPAS ask for state NEW (spec: rmi section 3.2)."""
    bound = {Rmi.REALM_ACTIVATE, Rmi.DATA_CREATE, Rmi.RTT_INIT_RIPAS}
    for setup in BOTH_STATES:
        for fid in VALID.keys() - bound:
            world = World()
            setup(world)
            world.ok(fid, *VALID[fid](world))
