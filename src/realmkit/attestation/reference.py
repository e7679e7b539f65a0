"""Reference values: what the owner expects of a token, as a value and as a JSON file (spec: attestation section 6).

The file has two objects; every member is optional and what is absent is not appraised. Byte strings are hexadecimal::

    {
      "schema": 1,
      "realm": {"rim": "...", "rems": ["...", null, null, null], "rpv": "...", "hash_algo": "sha-256"},
      "platform": {
        "config": "...",
        "lifecycles": ["secured"],
        "components": [{"measurement": "...", "name": "RMM", "version": "1.0"}]
      }
    }
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realmkit.arch.errors import RealmkitError
from realmkit.attestation.token import DIGEST_SIZES, NUM_REMS, Lifecycle

SCHEMA: Final = 1
MAX_FILE_SIZE: Final = 1 << 20

AFFIRMING_LIFECYCLES: Final = frozenset({Lifecycle.SECURED, Lifecycle.NON_CCA_PLATFORM_DEBUG})
"""States in which the platform protects Realms."""


@dataclass(frozen=True, slots=True)
class ExpectedComponent:
    """An acceptable firmware component; ``name`` and ``version`` are compared where they are given."""

    measurement: bytes
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the owner expects; None (also inside ``rems``) is not appraised.

    ``rim`` and ``rems`` are digests at their own length (32, 48 or 64 bytes), ``rpv`` has 64 bytes, ``hash_algo`` is
    the Realm's ("sha-256", "sha-512"). Raises RealmkitError for values of another size.
    """

    rim: bytes | None = None
    rems: tuple[bytes | None, ...] | None = None
    rpv: bytes | None = None
    hash_algo: str | None = None
    config: bytes | None = None
    components: tuple[ExpectedComponent, ...] | None = None
    lifecycles: frozenset[Lifecycle] = AFFIRMING_LIFECYCLES

    def __post_init__(self) -> None:
        _check_size("rim", self.rim, DIGEST_SIZES)
        _check_size("rpv", self.rpv, (64,))
        if self.rems is not None:
            if len(self.rems) != NUM_REMS:
                raise RealmkitError(f"expected rems: a Realm has {NUM_REMS}, got {len(self.rems)}")
            for rem in self.rems:
                _check_size("rem", rem, DIGEST_SIZES)
        for component in self.components or ():
            _check_size("component measurement", component.measurement, DIGEST_SIZES)


def load_expectations(path: Path) -> Expectations:
    """Read reference values; raises RealmkitError that names the file and what is wrong in it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise RealmkitError(f"cannot read the reference values {path}: {error.strerror}") from error
    try:
        return parse_expectations(content)
    except RealmkitError as error:
        raise RealmkitError(f"{path}: {error}") from error


def save_expectations(expected: Expectations, path: Path) -> None:
    """Write reference values in the form that :func:`load_expectations` reads; raises RealmkitError."""
    try:
        path.write_text(format_expectations(expected), encoding="utf-8")
    except OSError as error:
        raise RealmkitError(f"cannot write the reference values {path}: {error.strerror}") from error


def format_expectations(expected: Expectations) -> str:
    """Reference values as JSON text, absent members left out."""
    realm = {
        "rim": _hex(expected.rim),
        "rems": None if expected.rems is None else [_hex(rem) for rem in expected.rems],
        "rpv": _hex(expected.rpv),
        "hash_algo": expected.hash_algo,
    }
    platform = {
        "config": _hex(expected.config),
        "lifecycles": [state.name.lower() for state in sorted(expected.lifecycles)],
        "components": None
        if expected.components is None
        else [
            _present({"measurement": c.measurement.hex(), "name": c.name, "version": c.version})
            for c in expected.components
        ],
    }
    document = {"schema": SCHEMA, "realm": _present(realm), "platform": _present(platform)}
    return json.dumps(document, indent=2) + "\n"


def parse_expectations(content: bytes) -> Expectations:
    """Reference values from JSON text; unknown members are refused, since a misspelt one would not be appraised."""
    if len(content) > MAX_FILE_SIZE:
        raise RealmkitError(f"more than {MAX_FILE_SIZE} bytes of reference values")
    try:
        parsed = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RealmkitError(f"reference values are not JSON: {error}") from error
    document = _object(parsed, "reference values", ("schema", "realm", "platform"))
    if document.get("schema") != SCHEMA:
        raise RealmkitError(f"reference values have schema {document.get('schema')!r}; expected {SCHEMA}")
    realm = _object(document.get("realm", {}), "realm", ("rim", "rems", "rpv", "hash_algo"))
    platform = _object(document.get("platform", {}), "platform", ("config", "lifecycles", "components"))
    rems = _array(realm.get("rems"), "realm.rems")
    components = _array(platform.get("components"), "platform.components")
    lifecycles = _array(platform.get("lifecycles"), "platform.lifecycles")
    return Expectations(
        rim=_bytes(realm.get("rim"), "realm.rim"),
        rems=None if rems is None else tuple(_bytes(rem, "realm.rems") for rem in rems),
        rpv=_bytes(realm.get("rpv"), "realm.rpv"),
        hash_algo=_text(realm.get("hash_algo"), "realm.hash_algo"),
        config=_bytes(platform.get("config"), "platform.config"),
        components=None if components is None else tuple(_component(c) for c in components),
        lifecycles=AFFIRMING_LIFECYCLES if lifecycles is None else frozenset(_lifecycle(name) for name in lifecycles),
    )


def _component(value: Any) -> ExpectedComponent:
    entry = _object(value, "component", ("measurement", "name", "version"))
    measurement = _bytes(entry.get("measurement"), "component measurement")
    if measurement is None:
        raise RealmkitError("reference values: a component has no measurement")
    return ExpectedComponent(
        measurement, _text(entry.get("name"), "component name"), _text(entry.get("version"), "component version")
    )


def _lifecycle(name: Any) -> Lifecycle:
    states = {state.name.lower(): state for state in Lifecycle}
    if not isinstance(name, str) or name not in states:
        raise RealmkitError(f"reference values: lifecycle {name!r} is unknown; expected one of {', '.join(states)}")
    return states[name]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate member in an object")
    return result


def _object(value: Any, name: str, members: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RealmkitError(f"{name}: expected an object with members {', '.join(members)}")
    unknown = sorted(value.keys() - set(members))
    if unknown:
        raise RealmkitError(f"{name}: unknown member {unknown[0]!r}; expected {', '.join(members)}")
    return value


def _array(value: Any, name: str) -> list[Any] | None:
    if value is not None and not isinstance(value, list):
        raise RealmkitError(f"{name}: expected an array")
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RealmkitError(f"{name}: expected text")
    return value


def _bytes(value: Any, name: str) -> bytes | None:
    try:
        return None if value is None else bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise RealmkitError(f"{name}: expected hexadecimal digits") from error


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _check_size(name: str, value: bytes | None, sizes: tuple[int, ...]) -> None:
    if value is not None and len(value) not in sizes:
        raise RealmkitError(f"expected {name} has {len(value)} bytes; it has {' or '.join(map(str, sizes))} in a token")
