"""A Host that attacks Linux while it boots and works: it panics or copes, the machine stays sound, secrets stay secret.

What a hostile Host does here it does through the hooks of the hypervisor library, with seeded randomness.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from realmkit.arch.gic import ICH_LR, LR_PENDING
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import LoadPage
from realmkit.arch.rmi import ENTER_EMUL_MMIO, ENTER_INJECT_SEA, ENTER_RIPAS_REJECT, ExitReason, Ripas, Rmi
from realmkit.cli.guest import Disk
from realmkit.devices.gic import Gicv3
from realmkit.devices.virtio import VirtioMmio
from realmkit.host.exits import Exit
from realmkit.host.hypervisor import Outcome, RunningRealm, Vcpu
from realmkit.host.interrupts import ListRegisters
from realmkit.host.vmm.layout import RAM_BASE
from realmkit.host.vmm.virtio import VIRTIO_FIRST_INTID
from tests.cli.kit import realmkit
from tests.linux.kit import GUEST, MIB, READY, Linux, keeper, needs_guest, secret

pytestmark = needs_guest

BOOT = 3_000_000_000
"""Ticks in which the guest surely has its secret."""
ATTACK = 200_000_000
"""Ticks for which an attack goes on."""
ENDS = frozenset({Outcome.POWERED_OFF, Outcome.RESET, Outcome.FAILED, Outcome.MAX_TICKS, Outcome.STUCK})
CPU_STOP = frozenset({2, 3})
"""SGIs with which Linux stops its CPUs."""


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "script").write_text(keeper(10_000))
    done = realmkit("initrd", "--from", GUEST, "-o", folder / "initrd", "--script", folder / "script")
    assert done.code == 0, done.err
    content = (folder / "initrd").read_bytes()
    assert secret() not in content
    assert secret().hex().encode() not in content
    return content


@pytest.fixture
def linux(initrd: bytes, tmp_path: Path) -> Iterator[Linux]:
    disk = tmp_path / "disk"
    disk.write_bytes(random.Random(1).randbytes(MIB))
    with Linux(initrd, disks=(Disk(disk),)) as guest:
        yield guest


class Spurious(ListRegisters):
    """List registers with interrupts in the free ones that nobody raised: SGIs, PPIs, SPIs and numbers of nothing."""

    def __init__(self, gic: Gicv3, never: frozenset[int]) -> None:
        super().__init__(gic, 0)
        self.choice, self.never = random.Random(3), never

    def load(self) -> tuple[int, tuple[int, ...]]:
        hcr, values = super().load()
        used = {value & 0xFFFF_FFFF for value in values if value}
        lrs = list(values)
        for n in range(len(self._values)):
            intid = self.choice.choice(
                [*range(32), *range(VIRTIO_FIRST_INTID, VIRTIO_FIRST_INTID + 4), 500, 1019, 8192]
            )
            if lrs[n] or intid in used | self.never or self.choice.random() < 0.95:
                continue
            used.add(intid)
            lrs[n] = ICH_LR.make(vINTID=intid, Group=1, Priority=self.choice.choice([0, 0x80]), State=LR_PENDING)
        return hcr, tuple(lrs)


def spurious(linux: Linux, never: frozenset[int]) -> None:
    """From now on the first VCPU gets such interrupts, but none of ``never``."""
    linux.running.vcpus[0].lists = Spurious(linux.devices.gic, never)


class Changer:
    """Serves RIPAS changes in part or not at all, and tries to make some that nobody asked for."""

    def __init__(self, running: RunningRealm) -> None:
        self.choice = random.Random(2)
        self.running = running
        self.honest = running.serve_special
        self.served = 0
        self.tries: list[bool] = []

    def serve_special(self, vcpu: Vcpu, record: Exit) -> None:
        if record.reason != ExitReason.RIPAS_CHANGE:
            self.honest(vcpu, record)
            return
        self.served += 1
        part = record.ripas_base + self.choice.choice([0, 1, 512, 2048, 8192]) * GRANULE_SIZE
        rec = self.running.realm.recs[vcpu.index]
        to_ram = record.ripas_value == Ripas.RAM
        self.running.realm.change_ripas(rec, record.ripas_base, min(part, record.ripas_top), to_ram)

    def unasked(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        realm = running.realm
        base = RAM_BASE + self.choice.randrange(256 * MIB // GRANULE_SIZE) * GRANULE_SIZE
        if record.reason == ExitReason.RIPAS_CHANGE:
            base = record.ripas_base + GRANULE_SIZE
        elif self.choice.random() < 0.98:
            return
        result = realm.rmi.call(Rmi.RTT_SET_RIPAS, realm.rd, realm.recs[0].pa, base, base + GRANULE_SIZE)
        self.tries.append(bool(result.success))


class Rings:
    """Writes into the rings of virtio devices: descriptors, the used index, entries of the used ring."""

    def __init__(self) -> None:
        self.choice = random.Random(4)
        self.writes = 0

    def __call__(self, running: RunningRealm, vcpu: Vcpu) -> None:
        choice, gic = self.choice, running.devices.gic
        for n, window in enumerate(w for w in running.devices.windows if isinstance(w.device, VirtioMmio)):
            assert isinstance(window.device, VirtioMmio)
            for queue in window.device.queues:
                if not queue.ready or choice.random() < 0.9:
                    continue
                entry = queue.device + 4 + 8 * choice.randrange(queue.size)
                address, size = choice.choice(
                    [
                        (queue.device + 2, 2),
                        (entry, 4),
                        (entry + 4, 4),
                        (queue.desc + 16 * choice.randrange(queue.size), 16),
                    ]
                )
                page = running.realm.dma_page(address)
                if page is not None:
                    offset = min(address % GRANULE_SIZE, GRANULE_SIZE - size)
                    running.realm.rmi.port.bus.write(Pas.NS, page + offset, choice.randbytes(size))
                    self.writes += 1
                    window.device.pending |= 1
                    gic.set_spi(VIRTIO_FIRST_INTID + n, choice.random() < 0.5)


class Liar:
    """Answers a share of the MMIO reads with garbage, or, with ``aborts``, some of them with an external abort."""

    def __init__(self, share: float, *, aborts: bool) -> None:
        self.choice = random.Random(5)
        self.share, self.aborts = share, aborts
        self.lies = 0

    def __call__(self, running: RunningRealm, vcpu: Vcpu) -> None:
        choice = self.choice
        if not vcpu.flags & ENTER_EMUL_MMIO or choice.random() > self.share:
            return
        self.lies += 1
        if self.aborts and choice.random() < 0.1:
            vcpu.flags ^= ENTER_EMUL_MMIO | ENTER_INJECT_SEA
        else:
            vcpu.gprs = tuple(choice.getrandbits(64) for _ in range(31))


class Unmapper:
    """Unmaps pages that the guest shares, at any time: when it comes back to one, the page is another, and empty."""

    def __init__(self, share: float) -> None:
        self.choice = random.Random(6)
        self.share = share
        self.unmapped = 0

    def __call__(self, running: RunningRealm, vcpu: Vcpu, record: Exit) -> None:
        shared = running.realm.shared
        if shared and self.choice.random() < self.share:
            self.unmapped += running.realm.reclaim(self.choice.choice(sorted(shared)))


def take_secret_away(linux: Linux) -> None:
    """Reclaim every page that holds the secret."""
    realm = linux.running.realm
    homes = {pa & -GRANULE_SIZE for pa in linux.protected_places()}
    assert homes
    ipas = [ipa for ipa, pa in realm.data.items() if pa in homes]
    assert ipas
    for ipa in ipas:
        assert realm.reclaim(ipa)
    assert linux.protected_places() == []
    assert not linux.hypervisor.memory.not_scrubbed


def take_kernel_away(linux: Linux) -> None:
    """Reclaim all that was loaded: the guest cannot execute one more instruction of its kernel."""
    pages = [step.ipa for step in linux.plan.steps if isinstance(step, LoadPage)]
    assert sum(map(linux.running.realm.reclaim, pages))
    assert not linux.hypervisor.memory.not_scrubbed


def test_what_the_host_can_read_is_found(linux: Linux) -> None:
    """The search that the other tests trust, where there is something to find."""
    linux.assert_secret_unseen()
    page = linux.hypervisor.memory.allocate()
    for form in (secret(), secret().hex().encode()):
        linux.hypervisor.port.bus.write(Pas.NS, page + GRANULE_SIZE - len(form), form)
        with pytest.raises(pytest.fail.Exception, match="the Host reads the secret"):
            linux.assert_secret_unseen()
        linux.hypervisor.port.bus.zero(Pas.NS, page, GRANULE_SIZE)


def test_lies_corrupt_rings_and_pages_that_vanish_while_linux_works(linux: Linux) -> None:
    assert linux.run_until(READY, BOOT).outcome is Outcome.INTERRUPTED, linux.text
    assert f"{len(secret())} bytes" in linux.text
    assert linux.run_until("round 2", ATTACK).outcome is Outcome.INTERRUPTED
    assert linux.protected_places()
    liar, rings = Liar(0.3, aborts=False), Rings()
    linux.running.before_entry.append(liar)
    assert linux.run(ATTACK // 4).outcome in ENDS
    assert liar.lies
    linux.assert_secret_unseen()
    linux.running.before_entry[:] = [rings]
    assert linux.run(ATTACK).outcome in ENDS
    assert rings.writes
    linux.assert_secret_unseen()
    linux.running.before_entry.clear()
    take_secret_away(linux)
    take_kernel_away(linux)
    assert linux.run(ATTACK).outcome is Outcome.FAILED
    linux.assert_sound()


def test_ripas_changes_and_interrupts_that_nobody_asked_for(linux: Linux, monkeypatch: pytest.MonkeyPatch) -> None:
    changer = Changer(linux.running)
    monkeypatch.setattr(linux.running, "serve_special", changer.serve_special)
    linux.running.after_exit.append(changer.unasked)
    spurious(linux, CPU_STOP)
    assert linux.run_until(READY, BOOT).outcome in ENDS | {Outcome.INTERRUPTED}
    assert changer.served
    assert changer.tries
    assert not any(changer.tries)
    linux.assert_secret_unseen()
    # A CPU that was told to stop spins in WFI, an exit each time: a moment of that is enough.
    spurious(linux, frozenset())
    assert linux.run(ATTACK // 10).outcome in ENDS
    linux.assert_sound()


def test_memory_that_the_host_refuses(linux: Linux, monkeypatch: pytest.MonkeyPatch) -> None:
    """RIPAS RAM rejected: Linux must not go on as if its memory were protected."""
    honest = linux.running.serve_special
    refused = []

    def refuse(vcpu: Vcpu, record: Exit) -> None:
        if record.reason == ExitReason.RIPAS_CHANGE and record.ripas_value == Ripas.RAM:
            refused.append(record.ripas_base)
            vcpu.flags |= ENTER_RIPAS_REJECT
        else:
            honest(vcpu, record)

    monkeypatch.setattr(linux.running, "serve_special", refuse)
    assert linux.run_until("Kernel panic", ATTACK).outcome is Outcome.INTERRUPTED, linux.text
    assert refused == [RAM_BASE]
    assert linux.run(ATTACK // 10).outcome in ENDS
    assert not linux.is_ready
    linux.assert_sound()


def test_lies_from_the_first_instruction_on(linux: Linux) -> None:
    liar = Liar(0.1, aborts=True)
    linux.running.before_entry.append(liar)
    assert linux.run(ATTACK).outcome in ENDS
    assert liar.lies
    linux.assert_sound()


def test_corrupt_rings_and_pages_that_vanish_during_the_boot(linux: Linux) -> None:
    rings, unmapper = Rings(), Unmapper(0.01)
    linux.running.before_entry.append(rings)
    linux.running.after_exit.append(unmapper)
    assert linux.run_until(READY, BOOT // 6).outcome in ENDS | {Outcome.INTERRUPTED}
    assert rings.writes
    assert unmapper.unmapped
    linux.assert_secret_unseen()
    take_kernel_away(linux)
    assert linux.run(ATTACK).outcome is Outcome.FAILED
    linux.assert_sound()
