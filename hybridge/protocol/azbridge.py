"""azbridge's conventions on top of a connection: preamble, port names, datagrams (section 10).

The sender names a port, the listener answers in three bytes, and then bytes or datagrams flow:

- `SenderPreamble`, `ListenerPreamble`: the two roles, fed with what arrives, however it was cut
- `DatagramReader`, `datagram_header`: datagrams in a stream of bytes
- `check_port_name`, `default_port_name`: what a port may be called
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.protocol.redaction import one_line

MAX_PORT_NAME_BYTES = 255
"""Longest port name as UTF-8: one byte of the preamble says how long it is."""

REPLY_BYTES = 3
"""Length of the listener's answer."""

LENGTH_BYTES = 2
"""What stands in front of each datagram: its length, big-endian."""

MAX_DATAGRAM_BYTES = 65_535
"""Longest datagram that `LENGTH_BYTES` can announce; UDP itself carries a little less."""

_VERSION = b"\x01\x00"
_HEAD_BYTES = 3
_MAX_INT32 = 2**31 - 1


class Mode(enum.IntEnum):
    """What flows behind the preamble."""

    STREAM = 0
    DATAGRAM = 1

    @property
    def words(self) -> str:
        """How people say it."""
        return "a stream of bytes" if self is Mode.STREAM else "datagrams"


class Refusal(enum.Enum):
    """An answer after which the listener closes."""

    VERSION = b"\x00\x00\x00"
    """The version or the mode is not understood."""

    NOT_A_STREAM = b"\x00\x00\x01"
    """A stream was asked for, and the port is one of datagrams."""

    NO_DATAGRAMS = b"\x00\x00\xff"
    """Datagrams were asked for, and the port is a stream."""

    UNKNOWN_PORT = b""
    """Nothing at all, but a Close: unknown port, or the preamble ended too early."""


class PortRefused(RelayError):
    """The other end does not open the port that was asked for."""

    status = 502


# --- port names ----------------------------------------------------------------------------------


def default_port_name(port: int, mode: Mode) -> str:
    """Give the name that a port has where nobody named it: ``5432``, ``161U`` for datagrams."""
    return f"{port}U" if mode is Mode.DATAGRAM else str(port)


def check_port_name(name: str, *, setting: str) -> str:
    """Check what a person called a port.

    Args:
        name: The name. azbridge itself takes only ASCII letters, digits, ``-`` and ``_``; the
            preamble carries any text.
        setting: The flag or key that it was written for, for the error.

    Returns:
        The name, unchanged.

    Raises:
        InvalidSetting: It is empty, longer than `MAX_PORT_NAME_BYTES`, or has blanks, slashes or
            characters that cannot be printed.
    """
    hint = "write a short name, such as test or 5432; azbridge takes letters, digits, - and _"
    if not name:
        raise InvalidSetting(setting, "the port name is empty", hint=hint)
    if not name.isprintable() or "/" in name or " " in name:
        problem = f"the port name {name!r} has blanks, slashes or unprintable characters"
        raise InvalidSetting(setting, problem, hint=hint)
    size = len(name.encode())
    if size > MAX_PORT_NAME_BYTES:
        problem = f"the port name has {size} bytes, and at most {MAX_PORT_NAME_BYTES} can be sent"
        raise InvalidSetting(setting, problem, hint=hint)
    return name


_INTEGER = re.compile(r"[\t-\r ]*[+-]?[0-9]+[\t-\r ]*")


def is_number(name: str) -> bool:
    """Whether azbridge takes a port name for a number: as .NET's ``int.TryParse`` does."""
    if not _INTEGER.fullmatch(name):
        return False
    digits = name.strip("\t\n\v\f\r +-").lstrip("0")
    value = int(digits[:11] or "0")
    return value <= _MAX_INT32 + ("-" in name)


def choose_port(ports: Mapping[str, Mode], asked: str) -> str | None:
    """Choose the port that a sender asked for, as section 10.2 has it.

    Args:
        ports: What the listener has, by name.
        asked: The name in the preamble.

    Returns:
        The port's own name: the only one that there is where a number was asked for, else the one
        with exactly this name. None where there is none.
    """
    if len(ports) == 1 and is_number(asked):
        return next(iter(ports))
    return asked if asked in ports else None


# --- the preamble --------------------------------------------------------------------------------


class ListenerPreamble:
    """The listener's part: reads which port is asked for, and says what to answer.

    When `is_complete`, send `reply`; where `port_name` is None, close then. A sender that finishes
    before that gets the Close alone.

    Args:
        ports: What there is, by name.
    """

    def __init__(self, ports: Mapping[str, Mode]) -> None:
        self._ports = ports
        self._came = bytearray()
        self.is_complete = False
        self.reply: bytes = Refusal.UNKNOWN_PORT.value
        self.port_name: str | None = None
        """Own name of the port that opens, or None."""
        self.asked = ""
        """The name that the sender sent, for the log; one line."""

    def feed(self, data: bytes) -> int:
        """Take what arrived; give how many bytes of it belong to the preamble."""
        for used, byte in enumerate(data):
            if self.is_complete:
                return used
            self._came.append(byte)
            self._look()
        return len(data)

    def _look(self) -> None:
        came = self._came
        if len(came) == _HEAD_BYTES and (came[:2] != _VERSION or came[2] not in tuple(Mode)):
            self._answer(Refusal.VERSION.value)
        elif len(came) > _HEAD_BYTES and len(came) == _HEAD_BYTES + 1 + came[_HEAD_BYTES]:
            name = came[_HEAD_BYTES + 1 :].decode(errors="replace")
            self._open(name, Mode(came[2]))

    def _open(self, asked: str, mode: Mode) -> None:
        self.asked = one_line(asked)
        name = choose_port(self._ports, asked)
        if name is None:
            self._answer(Refusal.UNKNOWN_PORT.value)
        elif self._ports[name] is mode:
            self.port_name = name
            self._answer(_VERSION + bytes((mode,)))
        elif mode is Mode.STREAM:
            self._answer(Refusal.NOT_A_STREAM.value)
        else:
            self._answer(Refusal.NO_DATAGRAMS.value)

    def _answer(self, reply: bytes) -> None:
        self.reply = reply
        self.is_complete = True

    @property
    def problem(self) -> str:
        """Why no port opens, for the log."""
        match self.reply:
            case Refusal.VERSION.value:
                return "it does not begin with azbridge's preamble of version 1.0"
            case Refusal.NOT_A_STREAM.value:
                return f"the port {self.asked!r} takes datagrams, and a stream was asked for"
            case Refusal.NO_DATAGRAMS.value:
                return f"the port {self.asked!r} is a stream, and datagrams were asked for"
        if not self.is_complete:
            return "azbridge's preamble did not come whole"
        return f"there is no port {self.asked!r}"


class SenderPreamble:
    """The sender's part: asks for a port, and reads the answer.

    Send each of `messages` as one binary message, and nothing more until `is_complete`; then
    `check` says whether the port is open. The end of the stream leaves it incomplete.

    Args:
        port_name: At most `MAX_PORT_NAME_BYTES` of UTF-8.
        mode: What shall flow.

    Raises:
        ValueError: The name is empty or too long.
    """

    def __init__(self, port_name: str, mode: Mode) -> None:
        name = port_name.encode()
        if not 0 < len(name) <= MAX_PORT_NAME_BYTES:
            raise ValueError(f"a port name has 1 to {MAX_PORT_NAME_BYTES} bytes")
        self._port_name = port_name
        self._mode = mode
        self._came = b""
        self.messages = (_VERSION + bytes((mode, len(name))), name)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer is there."""
        return len(self._came) == REPLY_BYTES

    def feed(self, data: bytes) -> int:
        """Take what arrived; give how many bytes of it belong to the answer."""
        taken = data[: REPLY_BYTES - len(self._came)]
        self._came += taken
        return len(taken)

    def check(self) -> None:
        """Read the answer, whole or cut off by the end of the stream.

        Raises:
            PortRefused: It is not exactly ``01 00`` and the mode.
        """
        name, answer = self._port_name, self._came
        if answer == _VERSION + bytes((self._mode,)):
            return
        match answer:
            case Refusal.UNKNOWN_PORT.value:
                problem = f"the other end has no port {name!r}"
                hint = "give --port-name one that it has; each listener must have them all"
            case Refusal.VERSION.value:
                problem = "the other end does not understand azbridge's preamble of version 1.0"
                hint = "update azbridge there"
            case Refusal.NOT_A_STREAM.value:
                problem = f"the port {name!r} takes datagrams, and no stream"
                hint = "listen on udp://HOST:PORT, or choose another port name"
            case Refusal.NO_DATAGRAMS.value:
                problem = f"the port {name!r} is a stream, and takes no datagrams"
                hint = "listen on HOST:PORT without udp://, or choose another port name"
            case _:
                problem = f"the answer {answer.hex(' ')} is none of azbridge's"
                hint = "is the other end azbridge, or hcm run --azbridge?"
        raise PortRefused(problem, hint=hint)


# --- datagrams -----------------------------------------------------------------------------------


def datagram_header(size: int) -> bytes:
    """Give the two bytes that stand in front of a datagram of ``size`` bytes.

    Raises:
        ValueError: It is longer than `MAX_DATAGRAM_BYTES`.
    """
    if size > MAX_DATAGRAM_BYTES:
        raise ValueError(f"a datagram has at most {MAX_DATAGRAM_BYTES} bytes")
    return size.to_bytes(LENGTH_BYTES, "big")


class DatagramReader:
    """Takes datagrams out of a stream of bytes, wherever that was cut.

    It holds at most one incomplete datagram.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def is_between_datagrams(self) -> bool:
        """Whether nothing is incomplete: the stream may end here."""
        return not self._held

    def feed(self, buffer: memoryview, start: int, end: int) -> list[bytes]:
        """Give the datagrams that ``buffer[start:end]`` completes, in order."""
        found: list[bytes] = []
        held = self._held
        while start < end:
            if not held and end - start >= LENGTH_BYTES:
                first = start + LENGTH_BYTES
                last = first + int.from_bytes(buffer[start:first], "big")
                if last <= end:  # Whole, as it should be: no detour.
                    found.append(bytes(buffer[first:last]))
                    start = last
                    continue
            wanted = LENGTH_BYTES
            if len(held) >= LENGTH_BYTES:
                wanted += int.from_bytes(held[:LENGTH_BYTES], "big")
            stop = min(end, start + wanted - len(held))
            held += buffer[start:stop]
            start = stop
            if len(held) >= LENGTH_BYTES:
                size = LENGTH_BYTES + int.from_bytes(held[:LENGTH_BYTES], "big")
                if len(held) == size:
                    found.append(bytes(held[LENGTH_BYTES:]))
                    held.clear()
        return found
