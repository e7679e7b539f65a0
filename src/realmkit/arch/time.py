"""Virtual time: one tick is 10 ns; charges for work that is not executed instruction by instruction.

An instruction that code executes is one tick. Everything else is charged here, so that runs are deterministic
(spec: host-platform, virtual time).
"""

TICKS_PER_SECOND = 100_000_000
CHARGE_EXIT = 50
"""Every exit from running code to Python software: trap, SMC, MMIO access, abort."""
CHARGE_RMI = 200
"""Every RMI call, on top of the exit."""
CHARGE_RSI = 100
"""Every RSI or PSCI call of a Realm, on top of the exit."""
CHARGE_COUNTER_READ = 5
"""A read of a counter."""
COUNTER_POLL = 64
"""Reads of counters in one slice from which software waits for time to pass, so that it passes faster."""
CHARGE_COUNTER_POLL = 500
"""A read of a counter by software that waits; it never leads past the next event."""
CHARGE_PAGE = 100
"""The RMM copies, wipes or hashes 4 KB."""
CHARGE_WORLD_SWITCH = 100
"""EL3 saves and restores a world."""
TOKEN_SLICE = 10_000
"""Duration of one slice of token work (0.1 ms)."""
TOKEN_SLICES = 24
"""Slices that sign one token: 2.4 ms in all."""
