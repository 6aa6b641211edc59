"""Whether a session's call may be answered by the cache, and whether what it loaded may be kept for others.

A load can be older than its capture although the protocol was followed: a session whose transaction reads from
a snapshot, or that already holds the entities, returns the past. And it can be too new: what the
transaction itself wrote is not committed. Both are found here, without I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Dialect, Table

from perfkit.cache.reasons import Reason
from perfkit.cache.tags import family_of
from perfkit.sqla.changes import Changes
from perfkit.sqla.sessions import (
    Carrier,
    changes_of,
    has_pending,
    holds_entities_of,
    is_idle,
    places_of,
    reads_from_snapshot,
)


def unfit_to_read(carriers: Sequence[Carrier], families: Collection[str] | None) -> Reason | None:
    """Why the database must answer; None when the cache may. No `families`: nobody knows yet what it will read."""
    for carrier in carriers:
        if is_idle(carrier):
            continue
        if wrote(carrier, families):
            return Reason.OWN_WRITES
        if reads_from_snapshot(carrier):
            return Reason.SNAPSHOT
    return None


def database_of(carriers: Sequence[Carrier], tables: Sequence[Table], watched: Mapping[Dialect, str]) -> str | Reason:
    """What tells the databases that the carriers read from others, as a part of the key.

    NOT_WATCHED if one of them is not `watched`, or if a session cannot say where it reads.
    """
    names: list[str] = []
    for carrier in carriers:
        places = places_of(carrier, tables)
        if places is None:
            return Reason.NOT_WATCHED
        for place in places:
            name = watched.get(place.dialect)
            if name is None:
                return Reason.NOT_WATCHED
            names.append(name + place.schemas)
    return "".join(dict.fromkeys(names))


def unfit_to_keep(carriers: Sequence[Carrier], families: Collection[str]) -> Reason | None:
    """Asked before a load: why its result must not be kept; None when it may."""
    if any(holds_entities_of(carrier, families) for carrier in carriers):
        return Reason.IDENTITY_MAP
    return None


def wrote(carrier: Carrier, families: Collection[str] | None) -> bool:
    """Whether its transaction has written, or will write at the next flush, any of `families`; None: anything."""
    if has_pending(carrier):
        return True
    return any(concerns(changes, families) for changes in changes_of(carrier))


def concerns(changes: Changes, families: Collection[str] | None) -> bool:
    """Whether a transaction with these notes has written any of `families`; None: anything."""
    if families is None:
        return bool(changes)
    return (
        changes.everything
        or bool(changes.mentions)
        or not changes.tables().isdisjoint(families)
        or any(family_of(name) in families for name in changes.by_hand)
    )
