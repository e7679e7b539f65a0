"""State of a range of interrupts, and the registers that show it (Arm IHI 0069, chapters 4 and 12).

The distributor's SPIs and each redistributor's SGIs and PPIs have the same registers at the same offsets of their
frames: both are an :class:`InterruptBank`. States are bit sets held in one integer each, bit n for INTID ``first`` + n,
so that a bank costs little and a selection over a thousand interrupts is a few operations.
"""

from realmkit.arch.gic import GROUP0, GROUP1, GROUP1_SECURE, PRIORITY_MASK

_IGROUPR, _ISENABLER, _ICENABLER, _ISPENDR, _ICPENDR, _ISACTIVER, _ICACTIVER = range(1, 8)
_BIT_REGISTERS = range(0x080, 0x400)
_IPRIORITYR = range(0x400, 0x800)
_ICFGR = range(0xC00, 0xD00)
_IGRPMODR = range(0xD00, 0xD80)
_WORD = 0xFFFF_FFFF


def non_secure_priority(priority: int) -> int:
    """A priority as Non-secure software sees it where there are two security states (IHI 0069, 4.8.1)."""
    return (priority << 1) & 0xFF if priority & 0x80 else 0


def from_non_secure_priority(value: int) -> int:
    """The priority that Non-secure software means: always in the lower half of the range."""
    return (0x80 | value >> 1) & PRIORITY_MASK


class InterruptBank:
    """Interrupts ``first`` to ``first + count - 1``."""

    __slots__ = (
        "active",
        "configurable",
        "count",
        "edge",
        "enabled",
        "first",
        "group1",
        "group_modifier",
        "implemented",
        "latched",
        "line",
        "priority",
    )

    def __init__(self, first: int, count: int, *, edge: int, configurable: int) -> None:
        self.first = first
        self.count = count
        self.implemented = (1 << count) - 1
        self.configurable = configurable & self.implemented
        """Interrupts whose trigger software may choose."""
        self.edge = edge & self.implemented
        """Edge-triggered interrupts; the others are level-sensitive."""
        self.enabled = 0
        self.latched = 0
        """Pending state that has been stored: an edge, an SGI, or a write to ISPENDR."""
        self.line = 0
        """Level of the input signals."""
        self.active = 0
        self.group1 = 0
        self.group_modifier = 0
        self.priority = bytearray(count)

    @property
    def pending(self) -> int:
        """Pending interrupts: latched ones, and level-sensitive ones whose signal is asserted."""
        return self.latched | (self.line & ~self.edge)

    def deliverable(self, groups: int) -> int:
        """Interrupts that are pending, enabled, not active, and in a group of the bit set ``groups``."""
        found = (self.latched | (self.line & ~self.edge)) & self.enabled & ~self.active
        if not found:
            return 0
        if not groups >> GROUP1 & 1:
            found &= ~self.group1
        if not groups >> GROUP0 & 1:
            found &= self.group1 | self.group_modifier
        if not groups >> GROUP1_SECURE & 1:
            found &= self.group1 | ~self.group_modifier
        return found

    def group(self, index: int) -> int:
        """Group of interrupt ``first + index``."""
        if self.group1 >> index & 1:
            return GROUP1
        return GROUP1_SECURE if self.group_modifier >> index & 1 else GROUP0

    def set_line(self, index: int, level: bool) -> bool:
        """Drive an input signal: whether that may have changed what is delivered."""
        bit = 1 << index
        if bool(self.line & bit) == level:
            return False
        self.line ^= bit
        if level and self.edge & bit:
            self.latched |= bit
        return bool(self.enabled & bit)

    def acknowledge(self, index: int) -> None:
        """Pending becomes active; a level-sensitive interrupt whose signal stays asserted is active and pending."""
        bit = 1 << index
        self.latched &= ~bit
        self.active |= bit

    # ---- registers ----

    def read(self, offset: int, size: int, *, non_secure: bool) -> int:
        """Read a register at its offset in the frame.

        ``non_secure`` tells the view of Non-secure software where there are two security states: only interrupts of
        Non-secure Group 1 exist in it. What is not implemented reads as zero.
        """
        if offset in _IPRIORITYR:
            return self._read_priority(offset - _IPRIORITYR.start, size, non_secure)
        if size != 4 or offset & 3:
            return 0
        if offset in _BIT_REGISTERS:
            return self._read_bits(offset >> 7, (offset & 0x7F) * 8 - self.first, non_secure)
        if offset in _ICFGR:
            return self._read_config((offset - _ICFGR.start) * 4 - self.first, non_secure)
        if offset in _IGRPMODR and not non_secure:
            return self._word(self.group_modifier, (offset - _IGRPMODR.start) * 8 - self.first)
        return 0

    def write(self, offset: int, size: int, value: int, *, non_secure: bool, modifier: bool) -> None:
        """Write a register at its offset in the frame; ``modifier``: IGRPMODR exists (two security states)."""
        if offset in _IPRIORITYR:
            self._write_priority(offset - _IPRIORITYR.start, size, value, non_secure)
        elif size != 4 or offset & 3:
            return
        elif offset in _BIT_REGISTERS:
            self._write_bits(offset >> 7, (offset & 0x7F) * 8 - self.first, value, non_secure)
        elif offset in _ICFGR:
            self._write_config((offset - _ICFGR.start) * 4 - self.first, value, non_secure)
        elif offset in _IGRPMODR and modifier and not non_secure:
            self.group_modifier = self._replace(self.group_modifier, (offset - _IGRPMODR.start) * 8 - self.first, value)

    @staticmethod
    def _word(bits: int, start: int) -> int:
        return bits >> start & _WORD if start >= 0 else 0

    def _replace(self, bits: int, start: int, value: int) -> int:
        if start < 0:
            return bits
        return (bits & ~(_WORD << start) | (value & _WORD) << start) & self.implemented

    def _read_bits(self, register: int, start: int, non_secure: bool) -> int:
        if register == _IGROUPR:
            return 0 if non_secure else self._word(self.group1, start)
        if register <= _ICENABLER:
            bits = self.enabled
        elif register <= _ICPENDR:
            bits = self.pending
        else:
            bits = self.active
        return self._word(bits & self.group1 if non_secure else bits, start)

    def _write_bits(self, register: int, start: int, value: int, non_secure: bool) -> None:
        if register == _IGROUPR:
            if not non_secure:
                self.group1 = self._replace(self.group1, start, value)
            return
        if start < 0:
            return
        bits = (value & _WORD) << start & self.implemented
        if non_secure:
            bits &= self.group1
        if register == _ISENABLER:
            self.enabled |= bits
        elif register == _ICENABLER:
            self.enabled &= ~bits
        elif register == _ISPENDR:
            self.latched |= bits
        elif register == _ICPENDR:
            self.latched &= ~bits
        elif register == _ISACTIVER:
            self.active |= bits
        else:
            self.active &= ~bits

    def _visible(self, index: int, non_secure: bool) -> bool:
        return 0 <= index < self.count and (not non_secure or bool(self.group1 >> index & 1))

    def _read_priority(self, intid: int, size: int, non_secure: bool) -> int:
        value = 0
        for lane in range(size):
            index = intid + lane - self.first
            if self._visible(index, non_secure):
                priority = self.priority[index]
                value |= (non_secure_priority(priority) if non_secure else priority) << 8 * lane
        return value

    def _write_priority(self, intid: int, size: int, value: int, non_secure: bool) -> None:
        for lane in range(size):
            index = intid + lane - self.first
            if self._visible(index, non_secure):
                chosen = value >> 8 * lane & 0xFF
                self.priority[index] = from_non_secure_priority(chosen) if non_secure else chosen & PRIORITY_MASK

    def _read_config(self, start: int, non_secure: bool) -> int:
        value = 0
        for lane in range(16):
            if self._visible(start + lane, non_secure) and self.edge >> (start + lane) & 1:
                value |= 2 << 2 * lane
        return value

    def _write_config(self, start: int, value: int, non_secure: bool) -> None:
        for lane in range(16):
            index = start + lane
            if self._visible(index, non_secure) and self.configurable >> index & 1:
                bit = 1 << index
                self.edge = self.edge | bit if value >> (2 * lane + 1) & 1 else self.edge & ~bit
