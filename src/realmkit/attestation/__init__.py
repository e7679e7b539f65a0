"""The Realm owner's side: tokens, verification, expected measurements. Importable without Unicorn."""
