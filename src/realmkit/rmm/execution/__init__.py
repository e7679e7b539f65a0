"""Running RECs: entry and exit, exceptions, RSI, PSCI, tokens, and the RMM's own boot."""
