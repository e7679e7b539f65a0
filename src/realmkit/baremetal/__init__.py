"""Bare-metal Host images: AArch64 code that runs at NS-EL2 of a whole machine (spec: host-platform)."""

from realmkit.baremetal.images import PlacedImage, parse_placement, place
from realmkit.baremetal.nonvolatile import NonVolatile
from realmkit.baremetal.runner import BareMetal, Configuration, Limits, Outcome, Result

__all__ = [
    "BareMetal",
    "Configuration",
    "Limits",
    "NonVolatile",
    "Outcome",
    "PlacedImage",
    "Result",
    "parse_placement",
    "place",
]
