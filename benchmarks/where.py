"""Where the time of a sample went: one line of the profile's table.

`perf script` gives each sample as a line with the process, and then one line for each frame of its
stack, the innermost first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SENDING = frozenset(
    {"tcp_sendmsg", "__x64_sys_sendto", "__x64_sys_sendmsg", "ksys_write", "__sys_sendto"}
)
RECEIVING = frozenset({"tcp_recvmsg", "__x64_sys_recvfrom", "ksys_read", "__sys_recvfrom"})
COPYING = frozenset({"_copy_from_iter", "_copy_to_iter"})
WAKING = frozenset({"sock_def_readable", "try_to_wake_up", "__wake_up_common", "ep_poll_callback"})

COPIES = "kernel: copies of bytes"
WAKES = "kernel: waking the next process"
SENDS = "kernel: sending, with the peer's receiving"
RECEIVES = "kernel: receiving"
WAITS = "kernel: waiting and switching"
KERNEL = "kernel: the rest"
CRYPTO = "libcrypto and libssl"
PYTHON = "Python"
LIBC = "libc: copies and memory"
OTHER = "the program itself, and others"

PARTS = (COPIES, WAKES, SENDS, RECEIVES, WAITS, KERNEL, CRYPTO, LIBC, PYTHON, OTHER)
"""In the order of the table."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a processor did at one moment."""

    pid: int
    stack: tuple[tuple[str, str], ...]
    """Name and file of each frame, the innermost first; never empty."""


def samples(script: Iterable[str]) -> Iterator[Sample]:
    """Read what ``perf script -F pid,ip,sym,dso`` prints."""
    pid: int | None = None
    stack: list[tuple[str, str]] = []
    for line in script:
        text = line.strip()
        if not text:
            if pid is not None and stack:
                yield Sample(pid, tuple(stack))
            pid, stack = None, []
        elif pid is None:
            pid = int(text.split()[0])
        else:
            stack.append(_frame(text))
    if pid is not None and stack:
        yield Sample(pid, tuple(stack))


def _frame(text: str) -> tuple[str, str]:
    _, _, rest = text.partition(" ")
    name, _, file = rest.rpartition(" (")
    return name.partition("+")[0].strip(), file.rstrip(")").rpartition("/")[2]


def part_of(sample: Sample) -> str:
    """Give the line of the table that a sample belongs to."""
    _, file = sample.stack[0]
    if "kernel" in file:
        return _part_of_kernel({each for each, _ in sample.stack})
    if file.startswith(("libcrypto", "libssl")):
        return CRYPTO
    if file.startswith("libc.") or file.startswith("libc-"):
        return LIBC
    if "python" in file or ".cpython-" in file or file == "[vdso]":
        return PYTHON
    return OTHER


def _part_of_kernel(names: set[str]) -> str:
    if names & COPYING:
        return COPIES
    if names & WAKING:
        return WAKES
    if names & SENDING:
        return SENDS
    if names & RECEIVING:
        return RECEIVES
    if any("epoll" in each or each in {"schedule", "do_sys_poll"} for each in names):
        return WAITS
    return KERNEL


def count(found: Iterable[Sample], owners: dict[int, str]) -> dict[str, Counter[str]]:
    """Count samples by the process that ``owners`` names, and by part; others are left out."""
    counts: dict[str, Counter[str]] = {}
    for sample in found:
        owner = owners.get(sample.pid)
        if owner is not None:
            counts.setdefault(owner, Counter())[part_of(sample)] += 1
    return counts
