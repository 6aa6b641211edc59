"""Runs: SQLAlchemy numbers its loads, and writes the number on each object.

run_number          orm.loading._new_runid            else: 0; objects are told apart by their own run only
new_run             orm.loading._new_runid            else: None; a statement cannot ask to be left alone
run_of, regroup     InstanceState.runid               else: None; nobody has siblings
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import InstanceState, loading

NEW_RUNID: Any = getattr(loading, "_new_runid", None)


def run_number() -> int:
    """A number between those that the runs of queries before and after it get; 0 if there are none."""
    return 0 if NEW_RUNID is None else NEW_RUNID()


def new_run() -> int | None:
    """A number larger than those of all loads so far, and smaller than those to come."""
    return None if NEW_RUNID is None else int(NEW_RUNID())


def run_of(state: InstanceState[Any]) -> float | None:
    """The number of the load that made an object; larger for later ones. None for what no query has loaded.

    An object from a batch has half a number more than the statement that read its row, which is that of no load.
    """
    return getattr(state, "runid", None)


def regroup(state: InstanceState[Any], run: float | None) -> None:
    """Let `state` belong to the objects of another load: its own was for it alone."""
    state.runid = run  # type: ignore[assignment]
