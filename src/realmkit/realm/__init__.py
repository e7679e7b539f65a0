"""Realm-side payloads shipped with the package (sources in ``payload/``, prebuilt as ``payload.elf``)."""

from importlib.resources import files


def embedded_payload() -> bytes:
    """The embedded Realm payload as an ELF image."""
    return (files(__name__) / "payload.elf").read_bytes()
