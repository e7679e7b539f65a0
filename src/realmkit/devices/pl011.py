"""PL011 UART (Arm DDI 0183; spec: host-platform, devices). The registers of the SBSA generic UART are a subset.

There is no line and no baud rate: what software transmits has left at once, what the other side sends waits without
loss until software has room for it.
"""

from collections import deque
from collections.abc import Callable

from realmkit.arch.fields import RegisterTable
from realmkit.devices.primecell import ID_REGISTERS, primecell_id

PL011_SIZE = 0x1000
_DR, _RSR, _FR, _ILPR, _IBRD, _FBRD, _LCR_H, _CR, _IFLS = 0x00, 0x04, 0x18, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34
_IMSC, _RIS, _MIS, _ICR, _DMACR = 0x38, 0x3C, 0x40, 0x44, 0x48

FR = RegisterTable("UARTFR", RXFE=(4, 4), RXFF=(6, 6), TXFE=(7, 7))
LCR_H = RegisterTable("UARTLCR_H", FEN=(4, 4))
CR = RegisterTable("UARTCR", UARTEN=(0, 0), LBE=(7, 7), TXE=(8, 8), RXE=(9, 9))
IFLS = RegisterTable("UARTIFLS", TXIFLSEL=(0, 2), RXIFLSEL=(3, 5))
INTERRUPTS = RegisterTable("UARTRIS", RX=(4, 4), TX=(5, 5), RT=(6, 6))

_RX, _TX, _RT = (INTERRUPTS.mask(name) for name in ("RX", "TX", "RT"))
_IDLE = FR.make(TXFE=1, RXFE=1)
"""UARTFR while nothing has been received."""
_RECEIVES, _TRANSMITS, _LOOPBACK = CR.mask("UARTEN", "RXE"), CR.mask("UARTEN", "TXE"), CR.mask("LBE")
_FEN = LCR_H.mask("FEN")
_FIFO_DEPTH = 32
_BREAK = 1 << 10
_RX_TRIGGERS = (4, 8, 16, 24, 28)
"""Characters at RXIFLSEL 0 to 4: 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO."""
_CR_RESET = CR.make(UARTEN=1, TXE=1, RXE=1)
_IFLS_RESET = IFLS.make(TXIFLSEL=2, RXIFLSEL=2)
_WRITABLE = {
    _ILPR: 0xFF,
    _IBRD: 0xFFFF,
    _FBRD: 0x3F,
    _LCR_H: 0xFF,
    _CR: 0xFF87,
    _IFLS: 0x3F,
    _IMSC: 0x7FF,
    _DMACR: 0x7,
}


def _id_page() -> bytes:
    page = bytearray(PL011_SIZE)
    for offset in ID_REGISTERS[::4]:
        page[offset : offset + 4] = primecell_id(offset, part=0x011, revision=3).to_bytes(4, "little")
    return bytes(page)


_ID_PAGE = _id_page()
"""The page of registers with nothing but its identification."""


class Pl011:
    """One UART.

    ``output(bytes)`` is given what software transmits; ``interrupt(level)`` drives UARTINTR and is called when it
    changes. After reset the UART is enabled, as firmware leaves it: SBSA drivers never enable it themselves. A disabled
    transmitter drops characters. Accesses of 1, 2 and 4 bytes at a register's offset work, as on the APB.
    """

    __slots__ = ("_input", "_interrupt", "_level", "_output", "_registers", "_ris", "revision")

    def __init__(self, output: Callable[[bytes], None], interrupt: Callable[[bool], None] | None = None) -> None:
        self._output = output
        self._interrupt = interrupt
        self._level = False
        self._input: deque[int] = deque()
        self.revision = 0
        """Changes whenever a register may read as something else (:class:`realmkit.devices.ReadableDevice`)."""
        self.reset()

    def reset(self) -> None:
        """Back to the state after reset; characters that were received are lost."""
        self._input.clear()
        self._registers = dict.fromkeys(_WRITABLE, 0)
        self._registers[_CR] = _CR_RESET
        self._registers[_IFLS] = _IFLS_RESET
        self._ris = 0
        self.revision += 1
        self._drive()

    def feed(self, data: bytes) -> None:
        """Characters arrive from the other side."""
        if data:
            self._input.extend(data)
            self._receive()

    @property
    def listening(self) -> bool:
        """Software has enabled the interrupts of the receiver: characters that arrive will be read."""
        return bool(self._registers[_IMSC] & (_RX | _RT))

    def feed_break(self) -> None:
        """The other side sends a break: it is received as a character with UARTDR.BE set."""
        self._input.append(_BREAK)
        self._receive()

    def read(self, offset: int, size: int) -> int:
        """Value of a register; reading DR takes a received character."""
        if offset in _WRITABLE:
            return self._registers[offset]
        if offset == _DR:
            return self._take()
        if offset == _FR:
            waiting = self._waiting()
            if not waiting:
                return _IDLE
            return FR.make(TXFE=1, RXFF=int(waiting == self._depth()))
        if offset == _RIS:
            return self._ris
        if offset == _MIS:
            return self._ris & self._registers[_IMSC]
        if offset in ID_REGISTERS:
            return _ID_PAGE[offset & ~3]
        return 0

    def registers(self) -> bytes | None:
        """4096 bytes, all registers as they read; None while characters wait, which reading DR would take."""
        if self._waiting():
            return None
        page = bytearray(_ID_PAGE)
        for offset in (_FR, _RIS, _MIS, *_WRITABLE):
            page[offset : offset + 4] = self.read(offset, 4).to_bytes(4, "little")
        return bytes(page)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register; writing DR transmits a character."""
        if offset == _DR:
            before = self._ris
            self._transmit(value & 0xFF)
            if self._ris != before:
                self.revision += 1
            self._drive()
            return
        self.revision += 1
        if offset == _ICR:
            self._ris &= ~value
        elif offset in _WRITABLE:
            self._registers[offset] = value & _WRITABLE[offset]
            if offset in (_LCR_H, _CR, _IFLS):
                self._receive()
        self._drive()

    # ---- FIFOs ----

    def _enabled(self, direction: int) -> bool:
        """Whether the UART is enabled, with its transmitter or its receiver."""
        return self._registers[_CR] & direction == direction

    def _depth(self) -> int:
        return _FIFO_DEPTH if self._registers[_LCR_H] & _FEN else 1

    def _trigger(self) -> int:
        select = IFLS.get(self._registers[_IFLS], "RXIFLSEL")
        return _RX_TRIGGERS[min(select, len(_RX_TRIGGERS) - 1)] if self._depth() > 1 else 1

    def _waiting(self) -> int:
        """Characters in the receive FIFO: the head of what has been sent to us."""
        return min(len(self._input), self._depth()) if self._input and self._enabled(_RECEIVES) else 0

    def _receive(self) -> None:
        """Receive interrupts for the present level of the FIFO.

        A level below the trigger raises the receive timeout at once: no more characters are on the line.
        """
        waiting = self._waiting()
        self.revision += 1
        self._ris &= ~(_RX | _RT)
        if waiting >= self._trigger():
            self._ris |= _RX
        elif waiting:
            self._ris |= _RT
        self._drive()

    def _take(self) -> int:
        if not self._waiting():
            return 0
        character = self._input.popleft()
        self._receive()
        return character

    def _transmit(self, character: int) -> None:
        if not self._enabled(_TRANSMITS):
            return
        if self._registers[_CR] & _LOOPBACK:
            self._input.append(character)
            self._receive()
        else:
            self._output(bytes((character,)))
        # The transmit FIFO has drained: its level has passed the trigger.
        self._ris |= _TX

    def _drive(self) -> None:
        level = bool(self._ris & self._registers[_IMSC])
        if level != self._level:
            self._level = level
            if self._interrupt is not None:
                self._interrupt(level)
