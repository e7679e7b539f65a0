"""RMI calls of a Python Host through the Monitor: round trips per second."""

from benchmarks.measure import Measurement, Settings, seconds, timed
from realmkit.arch.pas import GRANULE_SIZE
from realmkit.arch.rmi import ABI_VERSION, Rmi
from realmkit.stack import assemble


def run(settings: Settings) -> list[Measurement]:
    """RMI_VERSION, and pairs of RMI_GRANULE_DELEGATE and RMI_GRANULE_UNDELEGATE."""
    stack = assemble()
    smc = stack.host_port().smc
    calls = settings.count(100_000, 20_000)
    pairs = settings.count(20_000, 4_000)
    base = stack.machine.platform.nonsecure_ram()[0].base
    granules = range(base, base + pairs * GRANULE_SIZE, GRANULE_SIZE)

    def version() -> None:
        command, wanted = int(Rmi.VERSION), ABI_VERSION
        for _ in range(calls):
            smc(command, wanted)

    def delegate_undelegate() -> None:
        delegate, undelegate = int(Rmi.GRANULE_DELEGATE), int(Rmi.GRANULE_UNDELEGATE)
        for pa in granules:
            if smc(delegate, pa)[0] or smc(undelegate, pa)[0]:
                raise RuntimeError(f"granule {pa:#x} was refused")

    return [
        Measurement(
            "RMI_VERSION round trips", calls / seconds(settings.rounds, lambda: timed(version)), "1/s", higher=True
        ),
        Measurement(
            "DELEGATE + UNDELEGATE pairs",
            pairs / seconds(settings.rounds, lambda: timed(delegate_undelegate)),
            "1/s",
            higher=True,
        ),
    ]
