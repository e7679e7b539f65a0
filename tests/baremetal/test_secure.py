import pytest

from realmkit.arch.errors import RealmkitError
from realmkit.baremetal import Outcome
from tests.baremetal.kit import B_SELF, POWER_OFF, SMC, flat, mov64, prebuilt, printing, run

SECURE_RAM = 0x0600_0000
MSG_WAIT = (*mov64(0, 0x8400_006B), SMC)


@pytest.mark.parametrize("cpus", [1, 2])
def test_direct_messages_and_isolation(cpus: int) -> None:
    result = run(prebuilt("ffa-host"), cpus=cpus, secure=prebuilt("secure"))
    assert result.outcome is Outcome.POWER_OFF, (result.reason, result.uarts)
    assert "FAIL" not in result.uarts[2]
    assert result.uarts[2].endswith(" 0 failed\n")


def test_partition_boots_before_the_host() -> None:
    """The Host's DTB pointer in X0 is untouched by what the partition does."""
    partition = flat((*mov64(1, 0x1234), *MSG_WAIT, B_SELF), SECURE_RAM)
    words = (0xB940_0002, *mov64(1, 0x1C0B_0000), 0xB900_0022, *POWER_OFF)  # ldr w2, [x0]; str w2, [x1]
    assert run(flat(words), secure=partition, dtb=b"D\0\0\0").uarts == {2: "D"}


def test_a_partition_that_never_gets_ready_is_reported() -> None:
    result = run(flat((*printing("Host"), *POWER_OFF)), secure=flat((B_SELF,), SECURE_RAM))
    assert result.outcome is Outcome.IDLE
    assert result.uarts == {}
    assert result.diagnosis is not None
    assert result.diagnosis.pes[0].state.startswith("Secure")
    assert result.diagnosis.pes[0].registers["PC"] == SECURE_RAM


def test_a_partition_that_crashes_is_reported() -> None:
    result = run(flat(POWER_OFF), secure=flat((0,), SECURE_RAM))
    assert result.outcome is Outcome.CRASHED
    assert f"PC {SECURE_RAM:#x}" in result.reason


def test_a_partition_cannot_power_off() -> None:
    partition = flat((*POWER_OFF, *MSG_WAIT, B_SELF), SECURE_RAM)
    assert run(flat((*printing("Host"), *POWER_OFF)), secure=partition).uarts == {2: "Host"}


@pytest.mark.parametrize("address", [0x8800_0000, 0x0, 0x0800_0000])
def test_partitions_lie_in_secure_memory(address: int) -> None:
    with pytest.raises(RealmkitError, match="not inside Secure memory"):
        run(flat(POWER_OFF), secure=flat(MSG_WAIT, address))
