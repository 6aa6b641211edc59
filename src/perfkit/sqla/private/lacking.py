"""What this SQLAlchemy has not got, in words for the one warning that says so.

unseen              what the detector then does not see
why_not_batched     why batching is off
"""

from __future__ import annotations

from functools import cache

import sqlalchemy
from sqlalchemy import select
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session, loading
from sqlalchemy.orm.context import QueryContext

from perfkit.sqla.private import counting, runs


def unseen() -> list[str]:
    """What the detector cannot see with this SQLAlchemy, in words; empty with those that it is tested with."""
    loads = getattr(QueryContext, "default_load_options", None)
    lacking = {
        "which query loaded an object (no loading._new_runid)": runs.NEW_RUNID is None,
        "how many rows there were (no cursor._DEFAULT_FETCH)": counting.DEFAULT_FETCH is None,
        "lazy loads (no load_options._lazy_loaded_from)": not hasattr(loads, "_lazy_loaded_from"),
        "columns loaded later (no load_options._refresh_state)": not hasattr(loads, "_refresh_state"),
    }
    return [what for what, is_lacking in lacking.items() if is_lacking]


@cache
def why_not_batched() -> str | None:
    """Which name batching needs and this SQLAlchemy has not; None if all are there."""
    with sqlalchemy.create_engine("sqlite://").connect() as connection, Session(connection) as session:
        wanted = {
            "InstanceState.runid": hasattr(InstanceState, "runid"),
            "Select._where_criteria": hasattr(select(1), "_where_criteria"),
            "RelationshipProperty._get_strategy": hasattr(RelationshipProperty, "_get_strategy"),
            "Mapper._get_clause": hasattr(Mapper, "_get_clause"),
            "loading.instances": hasattr(loading, "instances"),
            "Session.identity_map": hasattr(session, "identity_map"),
        }
    return next((name for name, is_there in wanted.items() if not is_there), None)
