"""From a configuration and an image to a launch plan: a pure function (architecture decision 10)."""

from realmkit.arch.errors import RealmkitError
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.plan import CreateRec, CreateTable, InitRipas, LaunchPlan, LoadPage, RealmConfiguration, Step
from realmkit.arch.vmsa import entry_size
from realmkit.host.vmm import devicetree
from realmkit.host.vmm.images import GuestImage
from realmkit.host.vmm.layout import BLOCK, RAM_BASE, VmConfig


def plan(config: VmConfig, realm: RealmConfiguration, image: GuestImage, bootargs: str = "") -> LaunchPlan:
    """The steps that build a Realm from ``image``.

    All RAM becomes RIPAS RAM in 2 MB entries; the pages of the image and of the devicetree are populated and measured,
    everything else comes on demand. X0 of the first VCPU is the address of the devicetree, at the end of RAM.
    """
    dtb = devicetree.build(config, bootargs)
    dtb_base = config.ram_top - -(-len(dtb) // GRANULE_SIZE) * GRANULE_SIZE
    if image.top > dtb_base:
        raise RealmkitError("the image and the devicetree do not fit into memory together: use more memory")
    pages = image.pages()
    for offset in range(0, len(dtb), GRANULE_SIZE):
        pages[dtb_base + offset] = dtb[offset : offset + GRANULE_SIZE].ljust(GRANULE_SIZE, b"\0")
    steps: list[Step] = []
    for level in range(realm.rtt_level_start + 1, 3):
        reach = entry_size(level - 1)
        steps += [CreateTable(ipa, level) for ipa in range(RAM_BASE // reach * reach, config.ram_top, reach)]
    steps.append(InitRipas(RAM_BASE, config.ram_top, 2))
    split: set[int] = set()
    for ipa, content in sorted(pages.items()):
        block = ipa // BLOCK * BLOCK
        if block not in split:
            split.add(block)
            steps.append(CreateTable(block, 3))
        steps.append(LoadPage(ipa, content))
    steps.append(CreateRec(0, image.entry, (dtb_base, 0, 0, 0, 0, 0, 0, 0)))
    steps += [CreateRec(devicetree.vcpu_mpidr(n), 0, runnable=False) for n in range(1, config.vcpus)]
    return LaunchPlan(realm, tuple(steps), ((RAM_BASE, config.ram_top),))
