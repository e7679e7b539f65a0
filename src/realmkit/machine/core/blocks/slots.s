/* The state that realmkit.machine.core.blocks shares with the machine code: offsets of its 8-byte slots. */
LEFT = 0
ADDRESS = 8
SIZE = 16
STOP = 24
MASK = 32
EXPECTED = 40
READ = 48
REGISTER = 56
PSTATE = 64
