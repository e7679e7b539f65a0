"""Random lives of interrupts on two PEs, checked against the rules of the architecture at every step."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from realmkit.devices.gic import CpuInterface
from tests.devices.gic.kit import (
    CTLR,
    ICACTIVER,
    ICENABLER,
    ICPENDR,
    IROUTER,
    ISENABLER,
    ISPENDR,
    emulated,
    get_bit,
    set_bit,
    set_edge,
    set_priority,
)

SPURIOUS = 1023
PES = (0, 1)
SGIS = (0, 15)
PPIS = (16, 27)
SPIS = (32, 40, 63)
INTIDS = (*SGIS, *PPIS, *SPIS)
INPUTS = (*PPIS, *SPIS)

_pes = st.sampled_from(PES)
_intids = st.sampled_from(INTIDS)
_inputs = st.sampled_from(INPUTS)
_priorities = st.sampled_from([0x00, 0x40, 0x80, 0x98, 0xA0, 0xF8])


class GicMachine(RuleBasedStateMachine):
    """Software and devices do what they like; the model holds only what the outside knows."""

    def __init__(self) -> None:
        super().__init__()
        self.gic = emulated(pes=len(PES), spis=32)
        self.interfaces = [CpuInterface(self.gic, pe) for pe in PES]
        self.line: dict[tuple[int, int], bool] = {}
        self.edge: set[tuple[int, int]] = {(pe, intid) for pe in PES for intid in SGIS}
        self.enabled: set[tuple[int, int]] = set()
        self.priority: dict[tuple[int, int], int] = {}
        self.route = dict.fromkeys(SPIS, 0)
        self.groups = 0x3
        self.mask = [0xF8, 0xF8]
        self.stack: list[list[tuple[int, int]]] = [[], []]
        """Acknowledged and not ended, by PE: INTID and priority at that time."""

    @staticmethod
    def key(pe: int, intid: int) -> tuple[int, int]:
        return (0 if intid >= 32 else pe, intid)

    @initialize()
    def set_up(self) -> None:
        for pe, interface in enumerate(self.interfaces):
            interface.write("ICC_PMR_EL1", self.mask[pe])
            interface.write("ICC_IGRPEN1_EL1", 1)

    @rule(pe=_pes, intid=_inputs, level=st.booleans())
    def signal(self, pe: int, intid: int, level: bool) -> None:
        if intid < 32:
            self.gic.set_ppi(pe, intid, level)
        else:
            self.gic.set_spi(intid, level)
        self.line[self.key(pe, intid)] = level

    @rule(pe=_pes, intid=_intids)
    def enable(self, pe: int, intid: int) -> None:
        set_bit(self.gic, pe, ISENABLER, intid)
        self.enabled.add(self.key(pe, intid))

    @rule(pe=_pes, intid=_intids)
    def disable(self, pe: int, intid: int) -> None:
        set_bit(self.gic, pe, ICENABLER, intid)
        self.enabled.discard(self.key(pe, intid))

    @rule(pe=_pes, intid=_intids, priority=_priorities)
    def prioritise(self, pe: int, intid: int, priority: int) -> None:
        set_priority(self.gic, pe, intid, priority)
        self.priority[self.key(pe, intid)] = priority

    @rule(pe=_pes, intid=_inputs, edge=st.booleans())
    def configure(self, pe: int, intid: int, edge: bool) -> None:
        set_edge(self.gic, pe, intid, edge)
        (self.edge.add if edge else self.edge.discard)(self.key(pe, intid))

    @rule(pe=_pes, intid=_intids, register=st.sampled_from([ISPENDR, ICPENDR]))
    def pend(self, pe: int, intid: int, register: int) -> None:
        set_bit(self.gic, pe, register, intid)

    @rule(intid=st.sampled_from(SPIS), pe=_pes)
    def send_to(self, intid: int, pe: int) -> None:
        self.gic.distributor.write(IROUTER + 8 * intid, 8, pe)
        self.route[intid] = pe

    @rule(groups=st.sampled_from([0x0, 0x1, 0x2, 0x3]))
    def enable_groups(self, groups: int) -> None:
        self.gic.distributor.write(CTLR, 4, groups)
        self.groups = groups

    @rule(pe=_pes, mask=st.sampled_from([0x00, 0x80, 0xA0, 0xF8]))
    def set_mask(self, pe: int, mask: int) -> None:
        self.interfaces[pe].write("ICC_PMR_EL1", mask)
        self.mask[pe] = mask

    @rule(pe=_pes, target_list=st.integers(0, 3), intid=st.sampled_from(SGIS))
    def interrupt_pes(self, pe: int, target_list: int, intid: int) -> None:
        self.interfaces[pe].write("ICC_SGI1R_EL1", intid << 24 | target_list)
        for target in PES:
            if target_list >> target & 1:
                assert get_bit(self.gic, target, ISPENDR, intid)

    @rule(pe=_pes)
    def acknowledge(self, pe: int) -> None:
        interface = self.interfaces[pe]
        signalled = interface.irq_pending()
        offered = self.gic.highest_pending(pe)
        intid = interface.read("ICC_IAR1_EL1")
        assert (intid != SPURIOUS) is signalled
        if intid == SPURIOUS:
            return
        key = self.key(pe, intid)
        priority = self.priority.get(key, 0)
        assert offered == (intid, priority, 1)
        assert key in self.enabled
        assert self.groups & 0x2
        assert intid < 32 or self.route[intid] == pe
        assert priority < self.mask[pe]
        assert all(priority < running for _, running in self.stack[pe])
        level_asserted = self.line.get(key, False) and key not in self.edge
        assert get_bit(self.gic, pe, ISPENDR, intid) == level_asserted
        self.stack[pe].append((intid, priority))

    @precondition(lambda self: any(self.stack))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        pe = data.draw(st.sampled_from([pe for pe in PES if self.stack[pe]]))
        intid, _ = self.stack[pe].pop()
        self.interfaces[pe].write("ICC_EOIR1_EL1", intid)
        assert not self.gic.is_active(pe, intid)

    @rule(pe=_pes, intid=_intids)
    def deactivate_from_outside(self, pe: int, intid: int) -> None:
        """Only of interrupts that nobody handles, so that the model knows who is active."""
        if all((intid != other) for stack in self.stack for other, _ in stack):
            set_bit(self.gic, pe, ICACTIVER, intid)

    @invariant()
    def running_priority_is_that_of_the_last_acknowledged(self) -> None:
        for pe, interface in enumerate(self.interfaces):
            expected = self.stack[pe][-1][1] if self.stack[pe] else 0xFF
            assert interface.read("ICC_RPR_EL1") == expected

    @invariant()
    def active_is_what_was_acknowledged(self) -> None:
        handled = {self.key(pe, intid) for pe in PES for intid, _ in self.stack[pe]}
        active = {self.key(pe, intid) for pe in PES for intid in INTIDS if self.gic.is_active(pe, intid)}
        assert active == handled

    @invariant()
    def asserted_level_is_pending(self) -> None:
        for (pe, intid), level in self.line.items():
            if level and (pe, intid) not in self.edge:
                assert self.gic.is_pending(pe, intid)

    @invariant()
    def offer_is_the_best_of_what_can_be_delivered(self) -> None:
        for pe in PES:
            deliverable = [
                (self.priority.get(self.key(pe, intid), 0), intid)
                for intid in INTIDS
                if self.groups & 0x2
                and self.key(pe, intid) in self.enabled
                and self.gic.is_pending(pe, intid)
                and not self.gic.is_active(pe, intid)
                and (intid < 32 or self.route[intid] == pe)
            ]
            offered = self.gic.highest_pending(pe)
            if deliverable:
                priority, intid = min(deliverable)
                assert offered == (intid, priority, 1)
            else:
                assert offered is None
            assert self.interfaces[pe].read("ICC_HPPIR1_EL1") == (offered[0] if offered else SPURIOUS)
            assert not self.interfaces[pe].fiq_pending()


TestGic = GicMachine.TestCase
TestGic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
