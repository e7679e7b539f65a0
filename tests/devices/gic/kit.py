"""What the tests of the GIC share: register offsets by name, and GICs that are ready to deliver."""

from realmkit.devices import MmioDevice
from realmkit.devices.gic import REDISTRIBUTOR_SIZE, CpuInterface, Gicv3

CTLR = 0x0000
TYPER = 0x0004
IGROUPR = 0x080
ISENABLER = 0x100
ICENABLER = 0x180
ISPENDR = 0x200
ICPENDR = 0x280
ISACTIVER = 0x300
ICACTIVER = 0x380
IPRIORITYR = 0x400
ICFGR = 0xC00
IGRPMODR = 0xD00
IROUTER = 0x6000
WAKER = 0x0014
SGI_FRAME = 0x1_0000
ONES = 0xFFFF_FFFF

FVP_AFFINITIES = (0x8100_0000, 0x8100_0100, 0x8101_0000, 0x8101_0100)


def private(pe: int, register: int) -> int:
    """Offset of a register of the SGI frame of a PE."""
    return pe * REDISTRIBUTOR_SIZE + SGI_FRAME + register


def place(gic: Gicv3, pe: int, intid: int) -> tuple[MmioDevice, int]:
    """Frame of an interrupt and the offset of that PE's SGI frame in it."""
    return (gic.redistributors, private(pe, 0)) if intid < 32 else (gic.distributor, 0)


def set_bit(gic: Gicv3, pe: int, register: int, intid: int) -> None:
    """Write the bit of an interrupt to a one-bit-per-interrupt register."""
    frame, base = place(gic, pe, intid)
    frame.write(base + register + intid // 32 * 4, 4, 1 << intid % 32)


def get_bit(gic: Gicv3, pe: int, register: int, intid: int) -> int:
    """Read the bit of an interrupt."""
    frame, base = place(gic, pe, intid)
    return frame.read(base + register + intid // 32 * 4, 4) >> intid % 32 & 1


def set_priority(gic: Gicv3, pe: int, intid: int, priority: int) -> None:
    frame, base = place(gic, pe, intid)
    frame.write(base + IPRIORITYR + intid, 1, priority)


def set_edge(gic: Gicv3, pe: int, intid: int, edge: bool) -> None:
    frame, base = place(gic, pe, intid)
    offset = base + ICFGR + intid // 16 * 4
    bit = 2 << intid % 16 * 2
    kept = frame.read(offset, 4) & ~bit
    frame.write(offset, 4, kept | bit if edge else kept)


def enable(gic: Gicv3, pe: int, intid: int, priority: int = 0xA0) -> None:
    set_priority(gic, pe, intid, priority)
    set_bit(gic, pe, ISENABLER, intid)


def emulated(pes: int = 2, spis: int = 64) -> Gicv3:
    """A GIC with a single security state: all interrupts in Group 1, both groups enabled."""
    gic = Gicv3(range(pes), spis=spis)
    for word in range(spis // 32):
        gic.distributor.write(IGROUPR + 4 + 4 * word, 4, ONES)
    for pe in range(pes):
        gic.redistributors.write(private(pe, IGROUPR), 4, ONES)
    gic.distributor.write(CTLR, 4, 0x3)
    return gic


def physical(pes: int = 2) -> tuple[Gicv3, list[CpuInterface]]:
    """A machine's GIC as a Non-secure Host sets it up; SPI 56 is Secure."""
    gic = Gicv3(FVP_AFFINITIES[:pes], two_security_states=True, secure_intids={56})
    interfaces = [CpuInterface(gic, pe) for pe in range(pes)]
    gic.distributor.write(CTLR, 4, 0x12)
    for interface in interfaces:
        interface.write("ICC_PMR_EL1", 0xFF)
        interface.write("ICC_IGRPEN1_EL1", 1)
    return gic, interfaces
