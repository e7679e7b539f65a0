"""``realmkit doctor``: what this machine has and what is missing."""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from realmkit import __version__
from realmkit.machine.core import blocks

TESTED_UNICORN = ("2.1.4",)
LIBRARIES = ("capstone", "cbor2", "cryptography", "fdt", "greenlet", "pyelftools", "rich", "typer")
OPTIONAL_TOOLS = (
    ("aarch64-linux-gnu-gcc", "rebuild payloads and examples", "gcc-aarch64-linux-gnu"),
    ("apt-get", "fetch a Debian kernel as a guest", "apt (Debian and Ubuntu only)"),
    ("dtc", "read devicetrees", "device-tree-compiler"),
    ("qemu-system-aarch64", "compare boot times", "qemu-system-arm"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; ``required`` findings decide the exit code."""

    name: str
    found: str
    ok: bool
    required: bool
    advice: str = ""


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine() -> list[Finding]:
    """Look at Python, the libraries and the optional tools."""
    findings = [
        Finding("realmkit", __version__, True, True),
        Finding(
            "Python",
            platform.python_version(),
            sys.version_info >= (3, 11),
            True,
            "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer",
        ),
        Finding(
            "system",
            f"{platform.system()} {platform.machine()}",
            platform.system() == "Linux",
            True,
            "" if platform.system() == "Linux" else "Linux is required: memory is mapped without reservation",
        ),
    ]
    unicorn = _installed("unicorn")
    tested = unicorn in TESTED_UNICORN
    findings.append(
        Finding(
            "unicorn",
            f"{unicorn} ({'tested' if tested else 'not tested'})" if unicorn else "not found",
            tested,
            True,
            "" if tested else f"pip install unicorn=={TESTED_UNICORN[-1]}",
        )
    )
    native = blocks.is_native()
    findings.append(
        Finding(
            "blocks of code",
            "counted by machine code" if native else "counted in Python",
            native,
            False,
            "" if native else "code runs many times slower: use Linux on x86-64 or AArch64",
        )
    )
    for name in LIBRARIES:
        found = _installed(name)
        findings.append(
            Finding(name, found or "not found", found is not None, True, "" if found else "pip install realmkit")
        )
    for tool, purpose, package in OPTIONAL_TOOLS:
        present = shutil.which(tool) is not None
        findings.append(
            Finding(
                tool,
                "found" if present else "not found",
                present,
                False,
                "" if present else f"optional, to {purpose}: install {package}",
            )
        )
    return findings


def run(console: Console) -> int:
    """Print the examination; 0 when everything that is required is there, else 1."""
    findings = examine()
    table = Table(show_header=True, header_style="bold", box=None)
    for column in ("", "what", "found", "advice"):
        table.add_column(column)
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else ("[red]missing[/]" if finding.required else "[yellow]-[/]")
        table.add_row(mark, finding.name, finding.found, finding.advice)
    console.print(table)
    return 0 if all(f.ok for f in findings if f.required) else 1
