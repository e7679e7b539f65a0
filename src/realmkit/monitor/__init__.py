"""EL3: measured boot, SMC routing, world switch, granule transitions, Host PSCI, platform attestation."""
