"""Classes that say themselves how they are kept, since not all that they hold can leave the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class OwnForm(NamedTuple):
    """What of an instance is kept, and the instance of that. `make` is given what anybody may have written."""

    take: Callable[[Any], Sequence[object]]
    make: Callable[[Any], object]
    fields: tuple[str, ...]


OWN: dict[type, OwnForm] = {}


def keeps(cls: type, take: Callable[[Any], Sequence[object]], make: Callable[[Any], object], *fields: str) -> None:
    """Let codecs keep instances of `cls` by what `take` gives, which `fields` names; called once, at import."""
    OWN[cls] = OwnForm(take, make, fields)
