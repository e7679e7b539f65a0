"""RMI by SMC from real code at NS-EL2, and the way into a Realm and back."""

from statistics import median

from benchmarks import programs
from benchmarks.measure import Measurement, Settings, interleaved, timed
from benchmarks.realm import HOST_CALL, GuestRealm, launch_plan, program
from realmkit.arch.pas import Pas
from realmkit.arch.rmi import ABI_VERSION, Rmi
from realmkit.machine.port import PSTATE_RESET_EL2, CpuContext
from realmkit.stack import Stack, assemble

_CODE_OFFSET = 0x10_0000
"""Of the image in the last Non-secure range, where the Python Host that builds the Realm allocates nothing."""


def _image_time(stack: Stack, count: int, *registers: int) -> float:
    """CPU time of ``count`` SMCs with X0.. = ``registers`` by an image on the primary PE."""
    machine = stack.machine
    ranges = machine.platform.nonsecure_ram()
    pa = ranges[-1].base + _CODE_OFFSET
    machine.buses[stack.host_port().state].write(Pas.NS, pa, program(programs.CALLS))
    x = [0] * 31
    x[20:24] = [count, *registers, *(0,) * (3 - len(registers))]
    pe = machine.pes[0]
    pe.image = pe.current = CpuContext(x=x, pc=pa, pstate=PSTATE_RESET_EL2)
    spent = timed(machine.run)
    if pe.image.x[20]:
        raise RuntimeError(f"the image did not end: {machine.stop_reason}, {pe.image.x[20]} calls left")
    return spent


def _calls(count: int) -> float:
    return _image_time(assemble(), count, Rmi.VERSION, ABI_VERSION)


def _entries_of_an_image(count: int) -> float:
    realm = GuestRealm(assemble(), launch_plan(programs.EXITS, (0, HOST_CALL)))
    return _image_time(realm.stack, count, Rmi.REC_ENTER, realm.rec, realm.run)


def run(settings: Settings) -> list[Measurement]:
    """RMI_VERSION, and RMI_REC_ENTER of a Realm that leaves at once, by an image and by a Python Host."""
    calls = settings.count(50_000, 5_000)
    entries = settings.count(10_000, 1_000)
    realm = GuestRealm(assemble(), launch_plan(programs.EXITS, (0, HOST_CALL)))

    def enter_repeatedly() -> None:
        for _ in range(entries):
            realm.enter()

    by_smc, by_image, by_host = interleaved(
        settings.rounds,
        lambda: _calls(calls),
        lambda: _entries_of_an_image(entries),
        lambda: timed(enter_repeatedly),
    )
    return [
        Measurement("RMI calls by SMC from an image", calls / median(by_smc), "1/s", goal=50_000, higher=True),
        Measurement("REC entry and exit, image", median(by_image) / entries * 1e6, "us", goal=30),
        Measurement("REC entry and exit, Python Host", median(by_host) / entries * 1e6, "us"),
    ]
