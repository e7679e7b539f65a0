"""Start of a platform up to a booted RMM: its time and memory must not grow with the size of the platform."""

import os
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.measure import Measurement, Settings, Unavailable
from realmkit.machine.platforms import MIB, TIB, fvp
from realmkit.stack import Stack, assemble

_RESULT = struct.Struct("<dq")


def _resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _in_child(work: Callable[[], object]) -> tuple[float, int]:
    """CPU time and growth of resident memory of ``work`` in a copy of this process: every sample starts alike."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            memory, start = _resident(), time.process_time()
            kept = work()
            spent = time.process_time() - start
            os.write(writable, _RESULT.pack(spent, _resident() - memory))
            code = 0 if kept is not None else 1
        finally:
            os._exit(code)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if len(answer) != _RESULT.size:
        raise RuntimeError("a platform did not start")
    spent, grown = _RESULT.unpack(answer)
    return spent, grown


def _start(size: int) -> Stack:
    return assemble(fvp(size))


def run(settings: Settings) -> list[Measurement]:
    """The fvp platform with 64 MiB and with 1 TiB of DRAM."""
    if not Path("/proc/self/statm").exists():
        raise Unavailable("resident memory is read from /proc")
    sizes = {"64 MiB": 64 * MIB, "1 TiB": TIB}
    samples: dict[str, list[tuple[float, int]]] = {name: [] for name in sizes}
    for turn in range(2 * settings.rounds + 1):
        for name, size in sizes.items():
            sample = _in_child(partial(_start, size))
            if turn:
                samples[name].append(sample)
    times = {name: median(spent for spent, _ in taken) for name, taken in samples.items()}
    memory = {name: median(grown for _, grown in taken) for name, taken in samples.items()}
    small, large = sizes
    return [
        Measurement(f"start, {large} : {small}, time", times[large] / times[small], "ratio", goal=1.1, required=1.5),
        Measurement(
            f"start, {large} : {small}, memory", memory[large] / memory[small], "ratio", goal=1.1, required=1.5
        ),
        *(Measurement(f"start of {name}", times[name] * 1e3, "ms") for name in sizes),
        *(Measurement(f"memory of {name}", memory[name] / MIB, "MiB resident") for name in sizes),
    ]
