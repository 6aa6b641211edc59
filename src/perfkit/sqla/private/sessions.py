"""What a session holds, and which there are.

is_clean            Session._is_clean                 else: by its sets, which are made anew each time
newest_first        WeakInstanceDict._dict            else: all_states(), which copies
live_sessions       orm.session._sessions             else: none; a session is batched from its next transaction on
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy.orm import InstanceState, Session


def is_clean(session: Session) -> bool:
    """Whether there is nothing to flush."""
    try:
        return session._is_clean()  # noqa: SLF001
    except AttributeError:
        return not (session.dirty or session.new or session.deleted)


def newest_first(session: Session) -> Iterable[InstanceState[Any]]:
    """The states of the identity map, those that came last first; RuntimeError if one goes meanwhile."""
    held: dict[Any, InstanceState[Any]] | None = getattr(session.identity_map, "_dict", None)
    return reversed(session.identity_map.all_states() if held is None else held.values())


def live_sessions() -> list[Session]:
    """The sessions that there are in this process."""
    held: Any = getattr(sys.modules[Session.__module__], "_sessions", None)
    with suppress(RuntimeError):  # another thread has made one
        return [] if held is None else list(held.values())
    return []
