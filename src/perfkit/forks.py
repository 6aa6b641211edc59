"""Forks: a child has none of its parent's threads, so that what waits for one of them begins anew there."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod

_anew: set[WeakMethod[Callable[[], None]]] = set()


def begin_anew_after_a_fork(method: Callable[[], None]) -> None:
    """Call this bound method in every child that is forked from now on, while its object lives."""
    _anew.add(WeakMethod(method, _anew.discard))


def _in_child() -> None:
    for reference in list(_anew):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
