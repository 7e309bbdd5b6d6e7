"""What the kit says when it is used wrongly, or when a test leaves something open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devstack.testing.leaks import Leak
from hybridge.protocol.errors import RelayError


class Ended(RelayError):
    """It was used after its end."""


class NotConnected(RelayError):
    """The agent did not connect in time."""


class Absent(RelayError):
    """What was asked for is not there: no client, no agent, or a relay that is stopped."""


class LeaksFound(RelayError):
    """Something was left open.

    Args:
        namespace: Where.
        leaks: What.
    """

    hint = (
        "close what the test opened before it ends; if it needs longer to close, "
        "raise leak_seconds (pytest: hybridge_leak_seconds)"
    )

    def __init__(self, namespace: str, leaks: Sequence[Leak]) -> None:
        things = "1 thing is" if len(leaks) == 1 else f"{len(leaks)} things are"
        lines = "".join(f"\n  {each}" for each in leaks)
        super().__init__(f"{things} left open in {namespace}:{lines}")
        self.leaks = tuple(leaks)


@contextmanager
def hinted() -> Iterator[None]:
    """Show an error's hint below it in a traceback."""
    try:
        yield
    except RelayError as error:
        note = f"hint: {error.hint}"
        if error.hint and note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
