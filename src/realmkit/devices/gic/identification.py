"""Identification registers that the GIC's frames share (IHI 0069, 12.9 and 12.11)."""

IIDR = 0x0000_043B
"""Implementer Arm, product and revision 0: no real product, so that software applies no product's workarounds."""
PIDR2 = 0x3B
"""Architecture revision GICv3."""
_PERIPHERAL_ID = {
    0xFFD0: 0x44,  # PIDR4
    0xFFE0: 0x92,  # PIDR0
    0xFFE4: 0xB4,  # PIDR1
    0xFFE8: PIDR2,
    0xFFF0: 0x0D,  # CIDR0-3
    0xFFF4: 0xF0,
    0xFFF8: 0x05,
    0xFFFC: 0xB1,
}


def read_identification(offset: int) -> int:
    """Value of a register in the identification space 0xFFD0-0xFFFC of a 64 KB frame."""
    return _PERIPHERAL_ID.get(offset, 0)
