"""Python exceptions for users of the library, as opposed to statuses and architectural faults."""


class RealmkitError(Exception):
    """Misuse by a user of the program or library: the message says what is wrong and what would be right."""


class InternalError(Exception):
    """An inconsistency inside realmkit. No input from a Host, a Realm or a file may raise it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"internal inconsistency: {what}. This is a bug in realmkit, please report it.")
