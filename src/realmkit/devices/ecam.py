"""PCIe configuration space (ECAM) of a root complex with nothing attached (spec: host-platform, memory map)."""


class EmptyEcam:
    """No function answers: configuration reads complete with all ones, writes go nowhere."""

    __slots__ = ()

    def read(self, offset: int, size: int) -> int:
        """All ones: no device."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Ignored."""
