"""GICv3 interrupt routing: SGIs, PPIs and SPIs of a set of PEs (Arm IHI 0069; spec: host-platform, devices).

A pure state machine: inputs are signals, register accesses and acknowledgements; the output is the highest-priority
pending interrupt of each PE. It serves as the machine's physical GIC (two security states, with a
:class:`~realmkit.devices.gic.cpu_interface.CpuInterface` for each PE) and as a Host's emulated GIC (a single security
state, delivered through list registers). Affinity routing is always on; there are no LPIs.
"""

from collections.abc import Callable, Collection, Sequence

from realmkit.arch.errors import RealmkitError
from realmkit.arch.gic import FIRST_PPI, FIRST_SPECIAL, FIRST_SPI, GROUP0, GROUP1, GROUP1_SECURE, ICC_SGIR
from realmkit.devices.gic.bank import InterruptBank
from realmkit.devices.gic.distributor import DistributorFrame
from realmkit.devices.gic.redistributor import RedistributorRegion

AFFINITY_MASK = 0xFF_00FF_FFFF
"""Aff3 in bits [39:32], Aff2, Aff1, Aff0 in [23:0]: as MPIDR_EL1 and GICD_IROUTER have them."""
MAX_SPIS = FIRST_SPECIAL - FIRST_SPI
_ALL_GROUPS = 1 << GROUP0 | 1 << GROUP1 | 1 << GROUP1_SECURE
_ROUTE_ANY = 1 << 31
_NOWHERE = -1
_SGIS = (1 << FIRST_PPI) - 1

PendingInterrupt = tuple[int, int, int]
"""INTID, priority (0 is the highest), group."""


class Gicv3:
    """Distributor and redistributors.

    ``affinities`` has one MPIDR value for each PE (bits outside the affinity fields are ignored). ``spis`` is the
    number of shared interrupts, from INTID 32, rounded up to a multiple of 32 as far as the architecture goes (988).

    With ``two_security_states`` the frames :attr:`distributor` and :attr:`redistributors` are those of Non-secure
    software, and the state after reset is the one that EL3 firmware leaves: redistributors awake, the Secure groups
    enabled, every interrupt in Non-secure Group 1 except ``secure_intids``, which are Group 0. Otherwise GICD_CTLR.DS
    is 1 and all interrupts start in Group 0, as after an architectural reset, but redistributors are awake.

    ``on_change(pe)`` is called when the answer of :meth:`highest_pending` for a PE may have changed.
    """

    def __init__(
        self,
        affinities: Sequence[int],
        *,
        spis: int = 224,
        two_security_states: bool = False,
        secure_intids: Collection[int] = (),
        on_change: Callable[[int], None] | None = None,
    ) -> None:
        if not 0 <= spis <= MAX_SPIS:
            raise RealmkitError(f"a GICv3 has 0 to {MAX_SPIS} shared interrupts, not {spis}")
        self.affinities = tuple(mpidr & AFFINITY_MASK for mpidr in affinities)
        self._pe_of = {affinity: pe for pe, affinity in enumerate(self.affinities)}
        if not self.affinities or len(self._pe_of) != len(self.affinities):
            raise RealmkitError("a GICv3 needs at least one PE, and no two with the same affinity")
        self.spis = min((spis + 31) // 32 * 32, MAX_SPIS)
        for intid in secure_intids:
            if not 0 <= intid < FIRST_SPI + self.spis:
                raise RealmkitError(f"no interrupt {intid} to be Secure: this GIC has INTIDs 0 to {31 + self.spis}")
        self.two_security_states = two_security_states
        self._secure_intids = frozenset(secure_intids)
        self.on_change = on_change
        self.distributor = DistributorFrame(self, non_secure=two_security_states)
        self.redistributors = RedistributorRegion(self, non_secure=two_security_states)
        self.secure_distributor = DistributorFrame(self, non_secure=False)
        self.secure_redistributors = RedistributorRegion(self, non_secure=False)
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset. Input signals are low until they are driven again."""
        count = len(self.affinities)
        self.shared = InterruptBank(FIRST_SPI, self.spis, edge=0, configurable=-1)
        self.private = [InterruptBank(0, FIRST_SPI, edge=_SGIS, configurable=~_SGIS) for _ in range(count)]
        self.routes = [0] * self.spis
        """GICD_IROUTER<n>."""
        self._targets = [self._pe_of.get(0, _NOWHERE)] * self.spis
        self.asleep = [False] * count
        """GICR_WAKER.ProcessorSleep."""
        self.groups = 0
        """Enabled groups (GICD_CTLR): bit set over GROUP0, GROUP1, GROUP1_SECURE."""
        if self.two_security_states:
            self.groups = 1 << GROUP0 | 1 << GROUP1_SECURE
            for bank in (self.shared, *self.private):
                bank.group1 = bank.implemented
            for intid in self._secure_intids:
                for bank in (self.shared,) if intid >= FIRST_SPI else self.private:
                    bank.group1 &= ~(1 << intid - bank.first)
        self._interface_groups = [_ALL_GROUPS] * count
        self._best: list[PendingInterrupt | None] = [None] * count
        self._stale = [True] * count
        self.changed_all()

    # ---- inputs ----

    def set_spi(self, intid: int, level: bool) -> None:
        """Drive the signal of a shared interrupt: a level, or an edge where it rises if configured so."""
        index = self._spi(intid)
        if self.shared.set_line(index, level):
            self._interrupt_changed(self.shared, index, _NOWHERE)

    def set_ppi(self, pe: int, intid: int, level: bool) -> None:
        """Drive the signal of a private interrupt of one PE."""
        if not FIRST_PPI <= intid < FIRST_SPI:
            raise RealmkitError(f"INTID {intid} is not a PPI (16 to 31)")
        if self.private[pe].set_line(intid, level):
            self.changed(pe)

    def set_ppis(self, pe: int, intids: int, levels: int) -> None:
        """Drive several such signals at once: one bit for each INTID."""
        different = (self.private[pe].line ^ levels) & intids
        while different:
            bit = different & -different
            self.set_ppi(pe, bit.bit_length() - 1, bool(levels & bit))
            different ^= bit

    def send_sgi(self, pe: int, value: int, group: int = GROUP1) -> None:
        """PE ``pe`` writes ``value`` to ICC_SGI1R_EL1 (``group`` GROUP1), or a like register of another group.

        Targets that do not exist, and those where the SGI is in another group, are passed over. With a single security
        state, ICC_SGI1R_EL1 generates SGIs of both groups.
        """
        intid = ICC_SGIR.get(value, "INTID")
        any_group = group == GROUP1 and not self.two_security_states
        if ICC_SGIR.get(value, "IRM"):
            targets = [other for other in range(len(self.affinities)) if other != pe]
        else:
            targets = self._sgi_targets(value)
        for target in targets:
            bank = self.private[target]
            if any_group or bank.group(intid) == group:
                bank.latched |= 1 << intid
                self.changed(target)

    def _sgi_targets(self, value: int) -> list[int]:
        cluster = (
            ICC_SGIR.get(value, "Aff3") << 32
            | ICC_SGIR.get(value, "Aff2") << 16
            | ICC_SGIR.get(value, "Aff1") << 8
            | ICC_SGIR.get(value, "RS") << 4
        )
        chosen = ICC_SGIR.get(value, "TargetList")
        found = (self._pe_of.get(cluster + lane, _NOWHERE) for lane in range(16) if chosen >> lane & 1)
        return [pe for pe in found if pe != _NOWHERE]

    # ---- outputs ----

    def highest_pending(self, pe: int) -> PendingInterrupt | None:
        """The interrupt that the distributor and the redistributor offer to a PE: (INTID, priority, group).

        Only interrupts that are pending, enabled, not active, routed to the PE and in groups that both GICD_CTLR and
        the CPU interface enable. Of equal priorities the lowest INTID comes first.
        """
        if self._stale[pe]:
            self._stale[pe] = False
            candidates = self._candidates(pe)
            self._best[pe] = min(candidates, key=_by_priority) if candidates else None
        return self._best[pe]

    def pending_interrupts(self, pe: int) -> list[PendingInterrupt]:
        """All interrupts that :meth:`highest_pending` would offer one after another, in that order."""
        return sorted(self._candidates(pe), key=_by_priority)

    def acknowledge(self, pe: int, intid: int) -> None:
        """A pending interrupt becomes active."""
        place = self._find(pe, intid)
        if place is not None:
            bank, index = place
            bank.acknowledge(index)
            self._interrupt_changed(bank, index, pe)

    def deactivate(self, pe: int, intid: int) -> None:
        """An interrupt is no longer active. INTIDs that name no interrupt are ignored."""
        place = self._find(pe, intid)
        if place is not None:
            bank, index = place
            bank.active &= ~(1 << index)
            self._interrupt_changed(bank, index, pe)

    def set_pending(self, pe: int, intid: int) -> None:
        """Latch the pending state (an edge, or a message), whatever the input signal."""
        place = self._find(pe, intid)
        if place is not None:
            bank, index = place
            bank.latched |= 1 << index
            self._interrupt_changed(bank, index, pe)

    def take_latched(self, pe: int, intid: int) -> bool:
        """Remove the stored pending state of an enabled edge-triggered interrupt: whether there was one.

        For software that keeps an interrupt pending and active elsewhere, in a list register.
        """
        place = self._find(pe, intid)
        if place is None:
            return False
        bank, index = place
        bit = 1 << index
        if not bank.latched & bank.enabled & bank.edge & bit:
            return False
        bank.latched &= ~bit
        return True

    def is_active(self, pe: int, intid: int) -> bool:
        """Whether an interrupt is active."""
        place = self._find(pe, intid)
        return place is not None and bool(place[0].active >> place[1] & 1)

    def is_pending(self, pe: int, intid: int) -> bool:
        """Whether an interrupt is pending, enabled or not."""
        place = self._find(pe, intid)
        return place is not None and bool(place[0].pending >> place[1] & 1)

    def is_level(self, pe: int, intid: int) -> bool:
        """Whether an interrupt is level-sensitive."""
        place = self._find(pe, intid)
        return place is not None and not place[0].edge >> place[1] & 1

    def group_of(self, pe: int, intid: int) -> int | None:
        """Group of an interrupt, None if there is no such interrupt."""
        place = self._find(pe, intid)
        return None if place is None else place[0].group(place[1])

    # ---- the frames and CPU interfaces ----

    def set_interface_groups(self, pe: int, groups: int) -> None:
        """Groups that the CPU interface of a PE enables (ICC_IGRPEN*). All, for a PE without a CPU interface."""
        if self._interface_groups[pe] != groups:
            self._interface_groups[pe] = groups
            self.changed(pe)

    def set_route(self, index: int, value: int) -> None:
        """Write GICD_IROUTER of interrupt 32 + ``index``. Interrupts for any PE (1 of N) go to PE 0."""
        self.routes[index] = value & (AFFINITY_MASK | _ROUTE_ANY)
        self._targets[index] = 0 if value & _ROUTE_ANY else self._pe_of.get(value & AFFINITY_MASK, _NOWHERE)
        self.changed_all()

    def set_groups(self, groups: int) -> None:
        """Enable groups in the distributor (GICD_CTLR)."""
        self.groups = groups
        self.changed_all()

    def set_asleep(self, pe: int, asleep: bool) -> None:
        """Write GICR_WAKER.ProcessorSleep: a sleeping PE is offered nothing."""
        self.asleep[pe] = asleep
        self.changed(pe)

    def changed(self, pe: int) -> None:
        """State that decides what a PE is offered has changed."""
        self._stale[pe] = True
        if self.on_change is not None:
            self.on_change(pe)

    def changed_all(self) -> None:
        """State that decides what any PE is offered has changed."""
        for pe in range(len(self.affinities)):
            self.changed(pe)

    # ---- selection ----

    def _candidates(self, pe: int) -> list[PendingInterrupt]:
        groups = self.groups & self._interface_groups[pe]
        if not groups or self.asleep[pe]:
            return []
        found: list[PendingInterrupt] = []
        bank = self.private[pe]
        bits = bank.deliverable(groups)
        while bits:
            index = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            found.append((index, bank.priority[index], bank.group(index)))
        bank = self.shared
        bits = bank.deliverable(groups)
        while bits:
            index = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            if self._targets[index] == pe:
                found.append((FIRST_SPI + index, bank.priority[index], bank.group(index)))
        return found

    def _find(self, pe: int, intid: int) -> tuple[InterruptBank, int] | None:
        if 0 <= intid < FIRST_SPI:
            return self.private[pe], intid
        if FIRST_SPI <= intid < FIRST_SPI + self.spis:
            return self.shared, intid - FIRST_SPI
        return None

    def _spi(self, intid: int) -> int:
        index = intid - FIRST_SPI
        if not 0 <= index < self.spis:
            raise RealmkitError(f"INTID {intid} is not an SPI of this GIC ({FIRST_SPI} to {FIRST_SPI + self.spis - 1})")
        return index

    def _interrupt_changed(self, bank: InterruptBank, index: int, pe: int) -> None:
        target = self._targets[index] if bank is self.shared else pe
        if target != _NOWHERE:
            self.changed(target)


def _by_priority(interrupt: PendingInterrupt) -> tuple[int, int]:
    return interrupt[1], interrupt[0]
