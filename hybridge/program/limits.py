"""How many connections this process may hold."""

from __future__ import annotations

import contextlib

from hybridge.protocol.errors import RelayError

try:
    import resource
except ImportError:  # Windows, where sockets are no descriptors and have no such limit.
    resource = None  # type: ignore[assignment]

LEAST_CONNECTIONS = 10
"""With room for fewer a program does not start: it would seem healthy and serve nobody."""

MOST_DESCRIPTORS = 1_048_576
"""What "unlimited" is taken for: more than a process needs, less than some kernels refuse."""


def raise_descriptor_limit(*, descriptors_per_connection: int, reserve: int = 64) -> int:
    """Raise the soft limit of open descriptors to the hard one.

    Args:
        descriptors_per_connection: What one relayed connection takes in this program.
        reserve: Descriptors kept for state, logs, health and listening sockets.

    Returns:
        How many connections that allows.

    Raises:
        TooFewDescriptors: Fewer than `LEAST_CONNECTIONS`.
    """
    descriptors = MOST_DESCRIPTORS if resource is None else _raise_soft_limit()
    room = (descriptors - reserve) // descriptors_per_connection
    if room < LEAST_CONNECTIONS:
        needed = reserve + LEAST_CONNECTIONS * descriptors_per_connection
        raise TooFewDescriptors(
            f"the system allows {descriptors} open descriptors, and at least {needed} are needed",
            hint=f"raise the hard limit: ulimit -Hn {max(1_024, needed)}",
        )
    return room


class TooFewDescriptors(RelayError):
    """The limit of open descriptors leaves no room to work."""


def _raise_soft_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
        if wanted > soft:
            # Some systems refuse what they call their own hard limit: then the soft one stays.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
