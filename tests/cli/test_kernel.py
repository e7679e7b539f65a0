"""Guests that are Linux kernels, as small programs in a kernel's clothes: parameters, panics, the attestation port."""

import struct
from contextlib import ExitStack
from pathlib import Path

import fdt
import pytest

from realmkit.arch import psci
from realmkit.arch.plan import LoadPage
from realmkit.arch.rsi import Rsi
from realmkit.cli.guest import LinuxGuest, Request
from realmkit.host.vmm.console import Console
from realmkit.host.vmm.layout import UART_BASE, VmConfig
from realmkit.host.vmm.virtio import ATTESTATION_PORT, VirtioDevices
from tests.cli.kit import load, realmkit
from tests.host.code import Code
from tests.host.vmm.test_launch import FEATURES

MIB = 1 << 20
HEADER = 64
ALIAS = 1 << 32
PANIC = "Kernel panic - not syncing: Attempted to kill the idle task!"


def image(code: Code | None = None, page_size: int = 1) -> bytes:
    """A Linux Image (Documentation/arch/arm64/booting): a branch over the header, then ``code``.

    ``page_size`` as the header has it: 0 unspecified, then 4, 16 and 64 KB.
    """
    body = b"" if code is None else code.bytes()
    size = HEADER + len(body)
    return (
        struct.pack("<IIQQQ24x4sI", 0x1400_0000 | HEADER // 4, 0, 0, size, 0b1000 | page_size << 1, b"ARM\x64", 0)
        + body
    )


def says(*lines: str, realm: bool = True, rsi: bool = False, end: int = psci.SYSTEM_RESET) -> bytes:
    """A kernel that prints lines on its UART and ends with a PSCI call."""
    code = Code()
    if rsi:
        code.mov(0, Rsi.VERSION).mov(1, 0x1_0000).smc()
    code.mov(10, UART_BASE | (ALIAS if realm else 0))
    for character in "".join(f"{line}\r\n" for line in lines):
        code.mov(11, ord(character)).store(11, 10, 0, 4)
    return image(code.mov(0, end).smc())


def run(tmp_path: Path, content: bytes, *options: str) -> tuple[str, str]:
    """Outcome and reason."""
    (tmp_path / "Image").write_bytes(content)
    done = realmkit("run", "-k", tmp_path / "Image", "-m16M", f"--report={tmp_path}/r.json", *options)
    assert done.code == 1
    report = load(tmp_path / "r.json")
    assert f"outcome       {report['outcome']}: {report['reason']}" in done.out
    return report["outcome"], report["reason"]


def test_a_panic_is_the_reason_and_a_kernel_without_realm_support_is_told_so(tmp_path: Path) -> None:
    outcome, reason = run(tmp_path, says("hello", f"[    0.000000] {PANIC}", "---[ end ]---"))
    assert outcome == "crashed"
    assert reason.startswith(f"{PANIC} (the Realm called PSCI SYSTEM_RESET)")
    assert "no support for Realms" in reason


def test_a_panic_of_a_kernel_that_knows_the_rsi_has_no_other_reason(tmp_path: Path) -> None:
    assert run(tmp_path, says(PANIC, rsi=True)) == ("crashed", f"{PANIC} (the Realm called PSCI SYSTEM_RESET)")


def test_a_plain_vm_needs_no_support_for_realms(tmp_path: Path) -> None:
    content = says(PANIC, realm=False)
    assert run(tmp_path, content, "--no-realm") == ("crashed", f"{PANIC} (the VM called PSCI SYSTEM_RESET)")


def test_a_restart_is_no_panic(tmp_path: Path) -> None:
    assert run(tmp_path, says("rebooting", rsi=True)) == ("reset", "the Realm called PSCI SYSTEM_RESET")


def test_a_kernel_that_never_comes_to_the_rsi_is_told_so_when_it_hangs(tmp_path: Path) -> None:
    outcome, reason = run(tmp_path, image(Code().word(0x1400_0000)), "--max-ticks=2000000")
    assert outcome == "max-ticks"
    assert "no support for Realms" in reason


def guest(
    *,
    params: str = "",
    console: str = "serial",
    attest: bool = False,
    page_size: int = 1,
    memory: int = 16 * MIB,
    realm: bool = True,
) -> LinuxGuest:
    config = VmConfig(memory)
    request = Request(
        image(page_size=page_size),
        "Image",
        config,
        bytes(32),
        kernel=True,
        params=params,
        console=console,
        attest=attest,
        realm=realm,
    )
    with ExitStack() as closing:
        return LinuxGuest(request, config.realm(FEATURES), Console(), closing)


def parameters(made: LinuxGuest) -> str:
    """Bootargs of the devicetree."""
    for step in made.plan.steps:
        if isinstance(step, LoadPage) and step.content[:4] == b"\xd0\x0d\xfe\xed":
            found = fdt.parse_dtb(step.content).get_property("bootargs", "/chosen")
            assert isinstance(found, fdt.PropStrings)
            return str(found.value)
    raise AssertionError("no devicetree")


@pytest.mark.parametrize(
    ("params", "console", "expected"),
    [
        ("quiet", "serial", "console=ttyAMA0 panic=-1 quiet"),
        ("", "virtio", "console=hvc0 panic=-1"),
        ("panic=0 a", "serial", "console=ttyAMA0 panic=0 a"),
        ("console=tty1 panic_on_warn=1", "serial", "panic=-1 console=tty1 panic_on_warn=1"),
    ],
)
def test_kernel_parameters_are_realmkits_where_none_are_given(params: str, console: str, expected: str) -> None:
    assert parameters(guest(params=params, console=console)) == f"earlycon=pl011,{ALIAS | UART_BASE:#x} {expected}"


@pytest.mark.parametrize(
    ("page_size", "memory", "params", "expected"),
    [
        (0, 256 * MIB, "", None),
        (1, 256 * MIB, "", None),
        (2, 256 * MIB, "", "2048"),
        (3, 256 * MIB, "", "2048"),
        (3, 4096 * MIB, "", None),
        (3, 256 * MIB, "swiotlb=4096", "4096"),
    ],
)
def test_kernels_with_large_pages_get_bounce_buffers_for_the_console_and_more(
    page_size: int, memory: int, params: str, expected: str | None
) -> None:
    words = parameters(guest(page_size=page_size, memory=memory, params=params)).split()
    assert [word for word in words if word.startswith("swiotlb")] == (
        [] if expected is None else [f"swiotlb={expected}"]
    )


def test_a_plain_vm_needs_no_bounce_buffers() -> None:
    assert "swiotlb" not in parameters(guest(page_size=3, realm=False))


@pytest.mark.parametrize(("attest", "line"), [(True, b"challenge " + b"00" * 32 + b"\n"), (False, b"\n")])
def test_the_port_always_has_a_line_so_that_the_guest_need_not_wait(
    monkeypatch: pytest.MonkeyPatch, attest: bool, line: bytes
) -> None:
    made: list[VirtioDevices] = []
    attach = VirtioDevices.attach

    def spy(self: VirtioDevices, *arguments: object, **options: bool) -> None:
        made.append(self)
        attach(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(VirtioDevices, "attach", spy)
    guest(attest=attest)
    assert bytes(made[0].console.ports[ATTESTATION_PORT].waiting) == line
