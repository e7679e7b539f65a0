"""From a configuration and an image to a launch plan: a pure function (architecture decision 10).

The steps, and with them the RIM, depend on the arguments alone. All RAM becomes RIPAS RAM in the largest table entries
that fit, so that neither the number of measured steps nor that of tables grows with memory; tables below are created
only where pages are loaded. Everything that is not loaded comes on demand.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration, Step
from realmkit.arch.vmsa import entry_size
from realmkit.host.vmm import devicetree
from realmkit.host.vmm.images import GuestImage
from realmkit.host.vmm.layout import BLOCK, LOW_MEMORY, RAM_BASE, UART_BASE, VmConfig
from realmkit.host.vmm.virtio import VirtioRegion

IMAGE, INITRD, DEVICETREE = "image", "initrd", "devicetree"
PARTS: Final = (IMAGE, INITRD, DEVICETREE)
"""What a plan loads, and by default measures."""
_PAGE_LEVEL: Final = 3


def earlycon(bootargs: str, realm: RealmConfiguration | None = None) -> str:
    """``bootargs`` with the PL011 as early console, unless they name one.

    A Realm (``realm``) reaches it through the Unprotected alias of its address, a plain VM (None) directly.
    """
    if any(word == "earlycon" or word.startswith("earlycon=") for word in bootargs.split()):
        return bootargs
    alias = 0 if realm is None else 1 << (realm.ipa_width - 1)
    return f"earlycon=pl011,{alias | UART_BASE:#x} {bootargs}".rstrip()


def plan(
    config: VmConfig,
    realm: RealmConfiguration,
    image: GuestImage,
    bootargs: str = "",
    *,
    initrd: bytes = b"",
    virtio: Sequence[VirtioRegion] = (),
    unmeasured: Collection[str] = (),
) -> LaunchPlan:
    """The steps that build a Realm, or a plain VM, from ``image`` and an optional ``initrd``.

    The devicetree lies near the end of the first 256 MB (or of RAM, when that is smaller), the initrd below it; X0 of
    the first VCPU is the address of the devicetree. ``unmeasured`` names parts (:data:`PARTS`) whose contents the owner
    does not want in the RIM. Raises RealmkitError when it does not fit into memory.
    """
    unknown = set(unmeasured) - set(PARTS)
    if unknown:
        raise RealmkitError(f"{', '.join(sorted(unknown))} cannot be left unmeasured: the parts are {', '.join(PARTS)}")
    size = len(devicetree.build(config, bootargs, virtio, (0, 0) if initrd else None))
    dtb_base, initrd_base = _place(config, image, size, len(initrd))
    dtb = devicetree.build(config, bootargs, virtio, (initrd_base, initrd_base + len(initrd)) if initrd else None)
    pages: dict[int, LoadPage] = {}
    for part, contents in (
        (IMAGE, image.pages()),
        (INITRD, _pages(initrd_base, initrd)),
        (DEVICETREE, _pages(dtb_base, dtb)),
    ):
        measured = part not in unmeasured
        pages.update({ipa: LoadPage(ipa, content, measured) for ipa, content in contents.items()})
    steps: list[Step] = [*_ripas(RAM_BASE, config.ram_top, realm.rtt_level_start)]
    made = {(step.level, step.ipa) for step in steps if isinstance(step, CreateTable)}
    for ipa in sorted(pages):
        for level in range(realm.rtt_level_start + 1, _PAGE_LEVEL + 1):
            table = level, ipa & -entry_size(level - 1)
            if table not in made:
                made.add(table)
                steps.append(CreateTable(table[1], level))
        steps.append(pages[ipa])
    steps.append(CreateRec(0, image.entry, (dtb_base, 0, 0, 0, 0, 0, 0, 0)))
    steps += [CreateRec(devicetree.vcpu_mpidr(n), 0, runnable=False) for n in range(1, config.vcpus)]
    return LaunchPlan(realm, tuple(steps), ((RAM_BASE, config.ram_top),))


def _place(config: VmConfig, image: GuestImage, dtb: int, initrd: int) -> tuple[int, int]:
    """Addresses of devicetree and initrd: as kvmtool has them, or at the end of RAM where that does not do.

    The devicetree starts at a multiple of 2 MB where there is room for that, and never crosses one.
    """
    tops = (RAM_BASE + min(config.memory, LOW_MEMORY), config.ram_top)
    for top in tops:
        for alignment in (BLOCK, GRANULE_SIZE):
            dtb_base = top - dtb & -alignment
            initrd_base = dtb_base - initrd & -GRANULE_SIZE
            if image.top <= initrd_base:
                return dtb_base, initrd_base
    needed = image.top - RAM_BASE + initrd + dtb + 2 * GRANULE_SIZE
    what = "the image, the initrd and the devicetree" if initrd else "the image and the devicetree"
    raise RealmkitError(
        f"{what} do not fit into {config.memory >> 20} MiB of memory together: use at least "
        f"{-(-needed // BLOCK) * BLOCK >> 20}M"
    )


def _pages(base: int, content: bytes) -> dict[int, bytes]:
    """Contents by page address, the last one zero-padded."""
    return {
        base + offset: content[offset : offset + GRANULE_SIZE].ljust(GRANULE_SIZE, b"\0")
        for offset in range(0, len(content), GRANULE_SIZE)
    }


def _ripas(base: int, top: int, level: int) -> Iterator[CreateTable | InitRipas]:
    """RIPAS RAM for [base, top) with whole entries at ``level``, and with tables below for the ends that are left."""
    size = entry_size(level)
    first, last = -(-base // size) * size, top // size * size
    if first < last:
        yield InitRipas(first, last, level)
        ends = [(base, first), (last, top)]
    elif first > last:
        ends = [(base, top)]
    else:
        ends = [(base, first), (first, top)]
    for low, high in ends:
        if low < high:
            yield CreateTable(low & -size, level + 1)
            yield from _ripas(low, high, level + 1)
