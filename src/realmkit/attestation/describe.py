"""A token in words, for people. What the lines say is what the token claims, verified or not."""

from collections.abc import Iterator

from realmkit.attestation.token import CcaToken, PlatformToken, RealmToken, shown


def describe(token: CcaToken) -> str:
    """All claims, one per line; texts are quoted, since a forger chooses them."""
    lines = [f"CCA attestation token ({'CMW collection, tag 907' if token.cmw else 'tag 399'})"]
    lines += ["platform token", *_rows(_platform(token.platform)), "realm token", *_rows(_realm(token.realm))]
    return "\n".join(lines)


def _rows(claims: Iterator[tuple[str, str]]) -> Iterator[str]:
    return (f"  {name:<22} {value}" for name, value in claims)


def _platform(platform: PlatformToken) -> Iterator[tuple[str, str]]:
    yield "profile", shown(platform.profile)
    yield "challenge", platform.challenge.hex()
    yield "implementation-id", platform.implementation_id.hex()
    yield "instance-id", platform.instance_id.hex()
    yield "config", platform.config.hex()
    yield "lifecycle", f"{platform.lifecycle_state.name.lower()} ({platform.lifecycle:#06x})"
    yield "hash algorithm", shown(platform.hash_algo)
    if platform.verification_service is not None:
        yield "verification service", shown(platform.verification_service)
    for component in platform.components:
        labels = [shown(text) for text in (component.name, component.version, component.hash_algo) if text is not None]
        yield "component", " ".join([*labels, component.measurement.hex(), "signed by", component.signer_id.hex()])


def _realm(realm: RealmToken) -> Iterator[tuple[str, str]]:
    yield "profile", "none (legacy)" if realm.profile is None else shown(realm.profile)
    yield "challenge", realm.challenge.hex()
    yield "RPV", realm.rpv.hex()
    yield "hash algorithm", shown(realm.hash_algo)
    yield "RIM", realm.rim.hex()
    for index, rem in enumerate(realm.rems):
        yield f"REM{index}", rem.hex()
    yield "RAK", realm.public_point.hex()
    yield "RAK hash algorithm", shown(realm.public_key_hash_algo)
