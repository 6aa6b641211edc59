"""Plans that are kept: who turns pages asks for the same statement, with other values at most.

Working one out costs more than the rest of what a page costs here. A plan holds for all statements of one structure
that differ in the values of their WHERE alone (sqla/blanks.py): any tenant, any filter. For values elsewhere it is
made anew, up to a number of times.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import CompoundSelect, Select
from sqlalchemy.orm import Session

from perfkit.paging.analysis import let_go
from perfkit.paging.plan import Plan, dialect_of, plan_of
from perfkit.sqla.blanks import NAME, blank_places, with_blanks
from perfkit.sqla.private import structure_of

STRUCTURES, VARIANTS = 500, 8


@dataclass(slots=True)
class _Kept:
    """The plans of a structure, by the values that are no blanks."""

    places: tuple[int, ...]
    plans: OrderedDict[Any, Plan] = field(default_factory=OrderedDict)


_kept: OrderedDict[Any, _Kept] = OrderedDict()


def planned(session: Session, statement: Any, *, assume_unique: bool = False) -> Plan:
    """How `statement` is paged on the database of `session`.

    Raises:
        PagingDeclarationError: it is not a SELECT or a compound of them, or it cannot be paged.
    """
    dialect = dialect_of(session, statement)
    structure = structure_of(statement) if isinstance(statement, Select | CompoundSelect) else None
    if structure is None:
        return plan_of(statement, dialect, assume_unique=assume_unique)
    shape, values = structure
    try:
        options = frozenset(statement.get_execution_options().items())
        key = (shape, dialect.name, dialect.driver, assume_unique, options)
        kept = _kept.get(key)
        if kept is None:
            kept = _kept[key] = _Kept(blank_places(statement))
            let_go(_kept, STRUCTURES)
        fixed = tuple(_fixed(value) for place, value in enumerate(values) if place not in kept.places)
        found = kept.plans.get(fixed)
    except TypeError:  # a value or an option without a hash
        return plan_of(statement, dialect, assume_unique=assume_unique)
    if found is None:
        found = plan_of(with_blanks(statement, kept.places), dialect, assume_unique=assume_unique)
        kept.plans[fixed] = found
        let_go(kept.plans, VARIANTS)
    return replace(found, values={NAME.format(place): values[place] for place in kept.places}) if kept.places else found


def _fixed(value: Any) -> Any:
    return type(value), tuple(value) if isinstance(value, list) else value
