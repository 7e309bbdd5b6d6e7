"""Listen, Send, Manage: what an authorization rule grants."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from hybridge.protocol.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable


class Claim(enum.Flag):
    """One right, or several together."""

    LISTEN = enum.auto()
    SEND = enum.auto()
    MANAGE = enum.auto()

    @classmethod
    def parse(cls, names: Iterable[str]) -> Claim:
        """Read the ``Rights`` of a rule, in any case and order. Manage includes the other two.

        Raises:
            InvalidSetting: A name is no right, or there is none at all.
        """
        claims = cls(0)
        for name in names:
            claim = _BY_NAME.get(name.strip().lower())
            if claim is None:
                raise InvalidSetting(
                    "Rights", f"{name!r} is not a right", hint="write Listen, Send or Manage"
                )
            claims |= claim
        if not claims:
            raise InvalidSetting("Rights", "the list is empty", hint="write Listen, Send or Manage")
        return claims

    def grants(self, needed: Claim) -> bool:
        """Whether a rule with these claims may do what ``needed`` says."""
        return Claim.MANAGE in self or needed in self

    @property
    def names(self) -> tuple[str, ...]:
        """Azure's words for the claims: ``("Listen", "Send")``."""
        return tuple(word for word, claim in _WORDS if claim in self)

    def __str__(self) -> str:
        return ", ".join(self.names)


_WORDS = (("Listen", Claim.LISTEN), ("Send", Claim.SEND), ("Manage", Claim.MANAGE))
_BY_NAME = {
    "listen": Claim.LISTEN,
    "send": Claim.SEND,
    "manage": Claim.LISTEN | Claim.SEND | Claim.MANAGE,
}
