"""Identification registers of PrimeCell peripherals, at 0xFE0-0xFFC of their 4 KB frames."""

ID_REGISTERS = range(0xFE0, 0x1000)
_CELL_ID = 0xB105_F00D
_DESIGNER_ARM = 0x41


def primecell_id(offset: int, part: int, revision: int) -> int:
    """Value of PeriphID0-3 and PCellID0-3: one byte in each word."""
    peripheral = part | _DESIGNER_ARM << 12 | revision << 20
    index = (offset - ID_REGISTERS.start) // 4
    return (peripheral if index < 4 else _CELL_ID) >> 8 * (index & 3) & 0xFF
