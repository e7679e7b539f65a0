"""Populating and measuring a Realm's memory, against hashing the same bytes with hashlib alone."""

import hashlib
import random
import struct
from statistics import median

from benchmarks.measure import Measurement, Settings, interleaved, ratio, timed
from benchmarks.realm import host_memory
from realmkit.arch.pas import GRANULE_SIZE, Pas
from realmkit.arch.plan import RealmConfiguration
from realmkit.arch.rmi import DATA_MEASURE_CONTENT, HashAlgorithm, Rmi
from realmkit.arch.vmsa import entry_size
from realmkit.host.realm import HostRealm
from realmkit.stack import assemble

MIB = 1 << 20
_DESCRIPTOR = struct.Struct("<B7xQ64sQQ64s96x")
"""The measurement descriptor of a data granule (RMM 1.0-rel0 C1.2.1)."""


def run(settings: Settings) -> list[Measurement]:
    """RMI_GRANULE_DELEGATE and measured RMI_DATA_CREATE of every page: 64 MiB, or 8 MiB when quick."""
    size = settings.count(64 * MIB, 8 * MIB)
    stack = assemble()
    port = stack.host_port()
    memory = host_memory(stack)
    contents = random.Random(0).randbytes(size)
    source = memory.run(size)
    target = memory.run(size)
    port.bus.write(Pas.NS, source, contents)
    offsets = range(0, size, GRANULE_SIZE)
    measured: list[bytes] = []

    def realm() -> HostRealm:
        result = HostRealm(memory.rmi, memory.granules, RealmConfiguration(33, HashAlgorithm.SHA_256), vmid=1)
        result.create()
        result.create_table(0, 2)
        for block in range(0, size, entry_size(2)):
            result.create_table(block, 3)
        done = 0
        while done < size:
            done = memory.rmi.rtt_init_ripas(result.rd, done, size).x1
        return result

    def populate(rd: int) -> None:
        smc = port.smc
        delegate, create = int(Rmi.GRANULE_DELEGATE), int(Rmi.DATA_CREATE)
        for offset in offsets:
            data = target + offset
            if smc(delegate, data)[0] or smc(create, rd, data, offset, source + offset, DATA_MEASURE_CONTENT)[0]:
                raise RuntimeError(f"the page at IPA {offset:#x} was refused")

    def with_realmkit() -> float:
        built = realm()
        before = stack.rmm.realms[built.rd].measurements[0]
        result = timed(lambda: populate(built.rd))
        measured[:] = before, stack.rmm.realms[built.rd].measurements[0]
        for offset in offsets:
            memory.rmi.data_destroy(built.rd, offset)
            memory.rmi.granule_undelegate(target + offset)
        built.destroy()
        return result

    def hash_everything() -> None:
        rim = measured[0]
        sha256, pack = hashlib.sha256, _DESCRIPTOR.pack
        for offset in offsets:
            digest = sha256(contents[offset : offset + GRANULE_SIZE]).digest()
            rim = sha256(pack(0, _DESCRIPTOR.size, rim, offset, DATA_MEASURE_CONTENT, digest)).digest()
        if rim.ljust(64, b"\0") != measured[1]:
            raise RuntimeError("the Realm's measurement is not the hash of its pages")

    ours, plain = interleaved(settings.rounds, with_realmkit, lambda: timed(hash_everything))
    what = f"{size // MIB} MiB, {len(offsets)} pages, SHA-256"
    return [
        Measurement("populate and measure : hashlib", ratio(ours, plain), "ratio", goal=5, required=8, note=what),
        Measurement("populate and measure", median(ours), "s"),
        Measurement("hashlib alone", median(plain), "s"),
    ]
