"""Where the time of a profile's samples went."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import where
from benchmarks.profile import WORKS, first_reason, table
from benchmarks.where import Sample, count, part_of, samples

SCRIPT = """\
  4711
\tffffffff81a0 _copy_from_iter+0x20 ([kernel.kallsyms])
\tffffffff81b0 tcp_sendmsg ([kernel.kallsyms])
\t7f00aa __send (/usr/lib/x86_64-linux-gnu/libc.so.6)

  4712
\t7f00bb _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)

  4711
\t7f00cc [unknown] (/usr/lib/x86_64-linux-gnu/libcrypto.so.3)
"""


def test_each_sample_has_its_process_and_its_stack_from_the_inside() -> None:
    found = list(samples(SCRIPT.splitlines()))

    assert [each.pid for each in found] == [4711, 4712, 4711]
    assert found[0].stack == (
        ("_copy_from_iter", "[kernel.kallsyms]"),
        ("tcp_sendmsg", "[kernel.kallsyms]"),
        ("__send", "libc.so.6"),
    )


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        (
            [("_copy_to_iter", "[kernel.kallsyms]"), ("tcp_recvmsg", "[kernel.kallsyms]")],
            where.COPIES,
        ),
        ([("_raw_spin_unlock", "[kernel]"), ("sock_def_readable", "[kernel]")], where.WAKES),
        ([("tcp_ack", "[kernel]"), ("tcp_sendmsg", "[kernel]")], where.SENDS),
        ([("skb_release_data", "[kernel]"), ("tcp_recvmsg", "[kernel]")], where.RECEIVES),
        ([("schedule", "[kernel]"), ("do_epoll_wait", "[kernel]")], where.WAITS),
        ([("do_syscall_64", "[kernel]")], where.KERNEL),
        ([("SSL_read_ex", "libssl.so.3")], where.CRYPTO),
        ([("__memmove_avx512", "libc.so.6")], where.LIBC),
        ([("__pyx_f_6uvloop", "loop.cpython-311-x86_64-linux-gnu.so")], where.PYTHON),
        ([("main", "haproxy")], where.OTHER),
    ],
)
def test_a_sample_belongs_to_what_its_innermost_frame_and_its_callers_say(
    stack: list[tuple[str, str]], part: str
) -> None:
    assert part_of(Sample(1, tuple(stack))) == part


def test_samples_are_counted_by_process_and_those_of_others_are_left_out() -> None:
    counts = count(samples(SCRIPT.splitlines()), {4711: "relay"})

    assert counts == {"relay": Counter({where.COPIES: 1, where.CRYPTO: 1})}


def test_the_table_gives_each_part_by_process_with_its_share() -> None:
    [work] = [each for each in WORKS if each.name == "round-trip"]
    text = table({"relay": Counter({where.COPIES: 300, where.PYTHON: 100})}, work)

    assert "| kernel: copies of bytes | 3 | 3 | 75 % |" in text
    assert text.splitlines()[-1] == "| all | 4 | 4 | 100 % |"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "Error:\nAccess to performance monitoring is limited.\nMore",
            "Access to performance monitoring is limited.",
        ),
        ("\n", "it does not say why"),
    ],
)
def test_why_perf_does_not_sample_is_the_first_line_that_says_something(
    said: str, reason: str
) -> None:
    assert first_reason(said) == reason
