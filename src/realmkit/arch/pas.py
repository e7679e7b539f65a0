"""Security states and physical address spaces (Arm ARM D1, D9)."""

from enum import IntEnum

GRANULE_SHIFT = 12
GRANULE_SIZE = 1 << GRANULE_SHIFT
GRANULE_MASK = GRANULE_SIZE - 1


class Pas(IntEnum):
    """Physical address space; the value is the PAS code {NSE, NS} used in MFAR_EL3 and descriptors."""

    SECURE = 0
    NS = 1
    ROOT = 2
    REALM = 3


class SecurityState(IntEnum):
    """Security state of a PE below EL3 as SCR_EL3.{NSE, NS}, plus ROOT for EL3 itself."""

    SECURE = 0
    NS = 1
    ROOT = 2
    REALM = 3


REACHABLE: dict[SecurityState, frozenset[Pas]] = {
    SecurityState.SECURE: frozenset({Pas.SECURE, Pas.NS}),
    SecurityState.NS: frozenset({Pas.NS}),
    SecurityState.ROOT: frozenset(Pas),
    SecurityState.REALM: frozenset({Pas.REALM, Pas.NS}),
}
"""The physical address spaces that software of a security state can name (Arm ARM D1.4)."""


class Gpi(IntEnum):
    """Granule protection information, one nibble per granule (Arm ARM D9)."""

    NO_ACCESS = 0x0
    SECURE = 0x8
    NS = 0x9
    ROOT = 0xA
    REALM = 0xB
    NS_ONLY = 0xD
    ANY = 0xF


GPI_OF_PAS: dict[Pas, Gpi] = {
    Pas.SECURE: Gpi.SECURE,
    Pas.NS: Gpi.NS,
    Pas.ROOT: Gpi.ROOT,
    Pas.REALM: Gpi.REALM,
}
