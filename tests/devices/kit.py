"""What the tests of timed devices share."""


class ManualClock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.tick = 0

    def now(self) -> int:
        return self.tick
