"""What can go wrong for a user, each said so that the next step is clear."""

from __future__ import annotations

from collections.abc import Sequence


class OctasklyError(Exception):
    """Base of all: its text is for people, and says what to do where something can be done."""


class Unreachable(OctasklyError):
    """Nothing answered at the address, or it went away for longer than the client's patience."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Nothing answers at {url} ({reason}). Is the dispatcher running? "
            "Start it: octaskly dispatcher, or name another: octaskly login URL"
        )
        self.url = url
        self.reason = reason


class PinMismatch(OctasklyError):
    """The server showed another key than the one that was pinned: nothing was sent to it."""

    def __init__(self, url: str, expected: str, seen: str) -> None:
        super().__init__(
            f"{url} has the key {seen}, but {expected} was pinned; nothing was sent. "
            "Somebody may be in between. If the cluster was set up anew, sign in again: octaskly login URL --pin PIN, "
            "with the pin that the dispatcher prints when it starts"
        )
        self.expected = expected
        self.seen = seen


class InsecureAddress(OctasklyError):
    """A password or token would travel in clear text over a network."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"{url} is not HTTPS, so everybody on the way could read your password. "
            "Use https://, or say --insecure if the network is yours alone"
        )


class NotSignedIn(OctasklyError):
    """No login, no token."""

    def __init__(self, url: str) -> None:
        super().__init__(f"You are not signed in at {url}. Run: octaskly login {url}")


class SessionOver(OctasklyError):
    """The tokens are not accepted any more."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("Your session is over. Run: octaskly login" + (f" ({detail})" if detail else ""))


class ServerSaid(OctasklyError):
    """The server answered with an error; `status` and `field` are its own."""

    def __init__(self, text: str, *, status: int, field: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.field = field


class WrongPassword(ServerSaid):
    """The server does not know this user with this password."""


class Forbidden(ServerSaid):
    """The user's role does not allow it."""


class NotFound(ServerSaid):
    """There is no such thing, or it belongs to somebody else."""


class Invalid(ServerSaid):
    """A field was refused; `field` names it."""


class Conflict(ServerSaid):
    """The state of the thing does not allow it."""


class Gone(ServerSaid):
    """It was there once and has expired."""


class TooLarge(ServerSaid):
    """More than the server takes."""


class Busy(ServerSaid):
    """The server has no room; it was asked again and again for as long as the client's patience."""


class Ambiguous(OctasklyError):
    """Several things have ids like this."""

    def __init__(self, what: str, text: str, found: Sequence[str]) -> None:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")  # noqa: PLR2004 - what a line holds
        super().__init__(f"{text!r} fits several {what}s: {shown}. Give more of the id")


class NotThere(OctasklyError):
    """What was named in short is not among what the server lists."""


class BadFile(OctasklyError):
    """A local file cannot be read or written as asked."""


class BadAnswer(OctasklyError):
    """The server's answer is not what this version understands."""


class WaitedTooLong(OctasklyError):
    """The time ran out before what was waited for."""
