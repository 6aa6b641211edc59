"""Forks: a child has none of its parent's threads, so that what waits for one of them begins anew there.

A lock that one of them held in the moment of the fork would be held for ever. What it guards may be half done then: no
more than a total that lacks something, for nothing that decides what is current takes more than one step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from weakref import WeakMethod, WeakSet

_locking: WeakSet[object] = WeakSet()
_anew: set[WeakMethod[Callable[[], None]]] = set()


def begin_anew_after_a_fork(method: Callable[[], None]) -> None:
    """Call this bound method in every child that is forked from now on, while its object lives."""
    _anew.add(WeakMethod(method, _anew.discard))


def lock_of(owner: object) -> threading.Lock:
    """What `owner` keeps as its `_lock`; in each child it is given a new one.

    The old one may be taken there without saying so: a thread that waited for it has it before it can say it has.
    """
    _locking.add(owner)
    return threading.Lock()


def _in_child() -> None:
    for owner in list(_locking):
        owner._lock = threading.Lock()  # type: ignore[attr-defined]  # noqa: SLF001 - as `lock_of` says
    for reference in list(_anew):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
