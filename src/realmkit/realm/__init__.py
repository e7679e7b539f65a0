"""Realm-side payloads shipped with the package."""
