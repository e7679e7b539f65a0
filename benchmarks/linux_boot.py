"""Linux as a Realm, against the same kernel as a plain VM under QEMU."""

from benchmarks.measure import Measurement, Settings, Unavailable


def run(settings: Settings) -> list[Measurement]:
    """CPU time from start to power-off; needs a guest."""
    raise Unavailable("needs a Linux guest: --guest DIR")
