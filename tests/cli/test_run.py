"""``realmkit run`` as a user runs it: the embedded payload, results in files, misuse, payloads that go wrong."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from realmkit.cli.terminal import Keys, StandardInput
from tests.cli.kit import CHATTER, CRASH, LOOP, POWER_OFF, Finished, flat, load, realmkit


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Finished]]:
    """Two runs of the same thing in two processes, with every result file."""
    directory = tmp_path_factory.mktemp("run")
    runs = []
    for n in (1, 2):
        files = [f"--report={directory}/r{n}.json", f"--trace={directory}/t{n}.jsonl"]
        files += [f"--token-out={directory}/t{n}.cbor", f"--trust-anchor-out={directory}/k{n}.pem"]
        runs.append(realmkit("run", "--cpus=2", "--realm-pv=hello", "--measurement-algo=sha512", *files))
    return directory, runs


def test_whole_life_of_the_embedded_realm_succeeds(results: tuple[Path, list[Finished]]) -> None:
    directory, runs = results
    assert [run.code for run in runs] == [0, 0], runs[0].err
    report = load(directory / "r1.json")
    assert report["outcome"] == "ok"
    assert report["schema"] == 1
    assert report["realm"]["hash_algo"] == "sha-512"
    assert len(report["realm"]["rim"]) == 128
    assert [len(rem) for rem in report["realm"]["rem"]] == [128] * 4
    assert report["realm"]["rem"][0].strip("0")
    assert bytes.fromhex(report["realm"]["rpv"]).rstrip(b"\0") == b"hello"
    assert report["realm"]["vcpus"] == 2
    assert report["attestation"]["verified"]
    assert all(check["ok"] for check in report["attestation"]["checks"])
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}
    assert "[FAIL]" not in report["console"]
    assert report["console"].endswith("goodbye\n")


def test_console_and_counts_tell_what_happened(results: tuple[Path, list[Finished]]) -> None:
    directory, runs = results
    report = load(directory / "r1.json")
    assert report["console"] in runs[0].out
    assert report["counts"]["rmi"]["REALM_ACTIVATE"] == 1
    assert report["counts"]["rmi"]["GRANULE_DELEGATE"] == report["counts"]["rmi"]["GRANULE_UNDELEGATE"]
    assert report["counts"]["rsi"]["ATTESTATION_TOKEN_INIT"] == 1
    assert report["counts"]["psci"]["CPU_ON"] == 1
    assert report["counts"]["rec_exits"]["HOST_CALL"] > 0
    assert report["counts"]["ticks"] > 100_000


def test_two_processes_give_the_same_run(results: tuple[Path, list[Finished]]) -> None:
    directory, runs = results
    assert runs[0].out == runs[1].out
    first, second = load(directory / "r1.json"), load(directory / "r2.json")
    del first["time"], second["time"]
    assert first == second
    for name in ("t{}.cbor", "k{}.pem", "t{}.jsonl"):
        assert (directory / name.format(1)).read_bytes() == (directory / name.format(2)).read_bytes()


def test_token_is_a_tagged_collection(results: tuple[Path, list[Finished]]) -> None:
    token = cbor2.loads((results[0] / "t1.cbor").read_bytes())
    assert token.tag == 399
    assert sorted(token.value) == [44234, 44241]


def test_trace_holds_enough_to_recompute_the_rim(results: tuple[Path, list[Finished]]) -> None:
    """Someone else's script: the RIM from calls, formulas written anew (spec: measurement sections 2 and 3)."""
    lines = [json.loads(line) for line in (results[0] / "t1.jsonl").read_text().splitlines()]
    assert lines[0]["schema"] == 1
    rim = b""
    for event in lines[1:]:
        if event["event"] == "Measured" and event["index"] == 0 and event["kind"] == "REALM":
            rim = hashlib.sha512(bytes.fromhex(event["descriptor"])).digest()
        elif event["event"] == "Measured" and event["index"] == 0:
            descriptor = bytes.fromhex(event["descriptor"])
            assert descriptor[0x10:0x50] == rim.ljust(64, b"\0")
            rim = hashlib.sha512(descriptor).digest()
            assert bytes.fromhex(event["value"]) == rim
    assert rim.hex() == load(results[0] / "r1.json")["realm"]["rim"]


def test_trace_decodes_every_call(results: tuple[Path, list[Finished]]) -> None:
    calls = [json.loads(x) for x in (results[0] / "t1.jsonl").read_text().splitlines() if '"event":"Call"' in x]
    rmi = [call for call in calls if call["interface"] == "rmi"]
    assert {"name", "arguments", "results", "status", "refused", "fid"} <= rmi[0].keys()
    created = [call for call in rmi if call["name"] == "REC_CREATE"]
    assert len(created) == 2
    assert created[0]["arguments"].keys() == {"rd", "rec", "params_ptr"}
    assert all(call["refused"] for call in calls if call["status"].startswith("RMI_ERROR"))
    assert any(call["interface"] == "rsi" and call["name"] == "REALM_CONFIG" for call in calls)


def test_other_challenge_gives_another_token_and_the_same_rim(tmp_path: Path) -> None:
    for n, digits in enumerate(("11" * 32, "22" * 64)):
        done = realmkit("run", f"--challenge={digits}", f"--token-out={tmp_path}/{n}", f"--report={tmp_path}/{n}.json")
        assert done.code == 0, done.err
    assert (tmp_path / "0").read_bytes() != (tmp_path / "1").read_bytes()
    assert load(tmp_path / "0.json")["realm"]["rim"] == load(tmp_path / "1.json")["realm"]["rim"]


def test_seed_changes_the_platform_key(tmp_path: Path) -> None:
    for seed in (0, 7):
        assert realmkit("run", f"--seed={seed}", f"--trust-anchor-out={tmp_path}/{seed}").code == 0
    assert (tmp_path / "0").read_bytes() != (tmp_path / "7").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--mem=0",), "multiple of 2M"),
        (("--mem=lots",), "not a size"),
        (("--mem=3K",), "multiple of 2M"),
        (("--mem=99999999T",), "at most"),
        (("--cpus=0",), "VCPUs"),
        (("--cpus=100000",), "VCPUs"),
        (("--measurement-algo=md5",), "sha256"),
        (("--realm-pv=" + "x" * 65,), "64 bytes"),
        (("--challenge=zz",), "hexadecimal"),
        (("--challenge=00",), "32 to 64"),
        (("--report=/no/such/directory/r.json",), "no directory"),
        (("--trace=/",), "directory"),
        (("--nonsense",), "nonsense"),
        (("--max-ticks=0",), "max-ticks"),
        (("/no/such/image",), "No such file"),
    ],
)
def test_misuse_names_what_is_wrong_and_exits_with_2(arguments: tuple[str, ...], named: str) -> None:
    done = realmkit("run", *arguments)
    assert done.code == 2
    assert named in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"\x7fELF", "ELF"),
        (b"\x7fELF" + b"\xff" * 200, "ELF"),
        (b"\x1f\x8b" + b"junk", "gzip"),
    ],
)
def test_bad_images_are_refused(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    done = realmkit("run", path)
    assert done.code == 2
    assert named in done.err
    assert "Traceback" not in done.err


def test_image_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"\1" * (4 << 20))
    done = realmkit("run", path, "--mem=4M")
    assert done.code == 2
    assert "does not fit" in done.err


def test_payload_without_a_token_is_not_attested(tmp_path: Path) -> None:
    done = realmkit("run", flat(tmp_path / "off", POWER_OFF), f"--report={tmp_path}/r.json")
    assert done.code == 1
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "not-attested"
    assert not report["attestation"]["verified"]
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}


def test_endless_loop_ends_at_max_ticks(tmp_path: Path) -> None:
    done = realmkit("run", flat(tmp_path / "loop", LOOP), "--max-ticks=5000000", f"--report={tmp_path}/r.json")
    assert done.code == 1
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "max-ticks"
    assert 5_000_000 <= report["counts"]["ticks"] < 6_000_000
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}


def test_crash_is_noticed_and_the_machine_torn_down(tmp_path: Path) -> None:
    done = realmkit("run", flat(tmp_path / "crash", CRASH), f"--report={tmp_path}/r.json")
    assert done.code == 1
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "crashed"
    assert "exception loop" in report["reason"]
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}


def test_platform_key_can_be_given(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    done = realmkit("run", f"--platform-key={tmp_path}/key.pem", f"--trust-anchor-out={tmp_path}/anchor.pem")
    assert done.code == 0, done.err
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert (tmp_path / "anchor.pem").read_bytes() == public


def test_file_without_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    done = realmkit("run", f"--platform-key={tmp_path}/key.pem")
    assert done.code == 2
    assert "key.pem" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_run_and_tear_down(tmp_path: Path, number: signal.Signals) -> None:
    image = flat(tmp_path / "loop", LOOP)
    code = "from realmkit.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", str(image), f"--report={tmp_path}/r.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "running the Realm" in line:
                break
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(timeout=60) == 1
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "interrupted"
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}


def test_what_is_started_to_outlive_its_terminal_ignores_hangups(tmp_path: Path) -> None:
    """As nohup has it."""
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from realmkit.cli.interrupt import interruptible\n"
        "with interruptible(lambda: print('ended')):\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("close", ["terminal", "pipe"])
def test_a_run_whose_output_goes_away_tears_down_and_reports(tmp_path: Path, close: str) -> None:
    image = flat(tmp_path / "chatter", CHATTER)
    ours, theirs = pty.openpty() if close == "terminal" else os.pipe()
    code = "from realmkit.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", str(image), f"--report={tmp_path}/r.json"]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        seen = b""
        while b"xxxx" not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        assert process.wait(timeout=60)
    report = load(tmp_path / "r.json")
    assert report["outcome"] == "interrupted"
    assert report["teardown"] == {"granules_not_ns": 0, "granules_not_scrubbed": 0}


def test_a_terminal_that_has_been_closed_is_left_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with StandardInput(Keys(lambda data: None, lambda: None, lambda: None)) as source:
            assert source.interactive
            os.close(ours)


def test_a_trace_that_cannot_go_on_ends_the_run_in_order(tmp_path: Path) -> None:
    """The device is full in the middle: the Realm is destroyed, and the error names what could not be written."""
    done = realmkit("run", "--trace=/dev/full", f"--report={tmp_path}/r.json")
    assert done.code == 2
    assert done.err == "realmkit: cannot write the trace /dev/full: No space left on device\n"
    assert "destroying the Realm" in done.out


@pytest.mark.parametrize(
    ("options", "both"),
    [
        (("--report=x", "--trace=./x"), "the report and the trace"),
        (("--token-out=x", "--trust-anchor-out=x"), "the token and the trust anchor"),
        (("--kernel=x", "--initrd=y", "--report=y"), "the initrd and the report"),
        (("--kernel=x", "--disk=y", "--token-out=y"), "a disk and the token"),
    ],
)
def test_results_have_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], both: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = realmkit("run", *options)
    assert done.code == 2
    assert f"is {both} at once" in done.err
    assert not list(tmp_path.iterdir())
