"""A statement made ready for pages: its keys are selected behind its own columns, and it is ordered by them.

    select(Bin).order_by(Bin.status)
    → SELECT bins.*, bins.status, bins.id FROM bins WHERE (bins.status, bins.id) > (…) ORDER BY bins.status, bins.id

Keys are columns of their own, never attributes of the entities: those may be deferred, changed in the session, or
rounded by their type. What a page hands out has none of them.

Where the condition can only stand around the statement, it becomes a subquery of primary keys, columns and keys, and
entities are joined back to it, so that their loader options work as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Dialect, func, inspect, select, true
from sqlalchemy.orm import Session

from perfkit.errors import PagingDeclarationError
from perfkit.paging.analysis import Analysis, analysed, place_of
from perfkit.paging.keys import Key, key_of
from perfkit.paging.seek import Branch
from perfkit.sqla.ordering import Term, UnknownTerm, terms_of
from perfkit.sqla.private import options_of

_NAME = "perfkit_key_{}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement without order, its keys, and how many columns of a row are the caller's."""

    statement: Any
    keys: tuple[Key, ...]
    width: int

    def page(self, keys: Sequence[Key], branch: Branch | None, limit: int) -> Any:
        """The first `limit` rows of a branch, or of everything, in the order of `keys`."""
        statement = self.statement.order_by(*(part for key in keys for part in key.ordered()))
        if branch is not None:
            statement = (statement.having if branch.aggregate else statement.where)(branch.condition)
        return statement.limit(limit)


def plan(session: Session, statement: Any, *, assume_unique: bool = False) -> Plan:
    """How `statement` is paged on the database of `session`.

    Raises:
        PagingDeclarationError: it is not a SELECT or a compound of them, or it cannot be paged.
    """
    try:
        terms = _distinct(terms_of(statement))
    except AttributeError:
        raise PagingDeclarationError(f"give a select() or a union(), not {type(statement).__name__}") from None
    except UnknownTerm as unknown:
        raise PagingDeclarationError(f"ORDER BY {unknown}: give a column, an expression or a label") from None
    analysis = analysed(statement, terms, assume_unique=assume_unique)
    terms += [Term(column, column) for column in (tie(statement) for tie in analysis.ties)]
    width = 1 if isinstance(statement, CompoundSelect) else len(statement.column_descriptions)
    dialect = dialect_of(session, statement)
    plain: Any = statement.order_by(None)
    if analysis.wrapped:
        plain, terms, width = _wrapped(plain, terms, numbered=analysis.numbered)
    keys = _keys(terms, analysis, dialect)
    reads = (key.read.label(_NAME.format(number)) for number, key in enumerate(keys))
    return Plan(plain.add_columns(*reads), keys, width)


def dialect_of(session: Session, statement: Any) -> Dialect:
    """The dialect of the database that a statement goes to."""
    descriptions = getattr(statement, "column_descriptions", ())
    entities = (inspect(each.get("entity"), raiseerr=False) for each in descriptions)
    mapper = next((each.mapper for each in entities if each is not None), None)
    return session.get_bind(mapper=mapper, clause=statement).dialect


def _distinct(terms: Sequence[Term]) -> list[Term]:
    """Without what cannot change the order, because it stands in it already."""
    return list({hash(term.expression): term for term in reversed(terms)}.values())[::-1]


def _keys(terms: Sequence[Term], analysis: Analysis, dialect: Dialect) -> tuple[Key, ...]:
    facts = zip(analysis.nullable, analysis.aggregate, strict=True)
    facts_of = [*facts, (False, False)]  # of the number of a row
    return tuple(
        key_of(term, dialect, nullable=nullable, aggregate=aggregate and not analysis.wrapped)
        for term, (nullable, aggregate) in zip(terms, facts_of, strict=False)
    )


def _wrapped(statement: Any, terms: Sequence[Term], *, numbered: bool) -> tuple[Any, list[Term], int]:
    """A select from the statement as a subquery, its keys, and its width."""
    if isinstance(statement, CompoundSelect):
        names = [str(each.key) for each in statement.selected_columns]
        entities: dict[int, tuple[Any, list[Any]]] = {}
        columns = list(statement.selected_columns)
        places = [place_of(term.expression, columns) for term in terms]
        inner = statement.subquery()
        own, keys = list(inner.c), [inner.c[place] for place in places]
    else:
        inner, names, entities, keys = _inner(statement, terms)
        own = [inner.c[name] for name in inner.c.keys() if name.startswith("perfkit_column_")]  # noqa: SIM118
    if numbered:
        by = [*own, *(column for identity in entities.values() for column in identity[1])]
        number = func.row_number().over(partition_by=by).label("perfkit_number")
        again = select(*inner.c, number).subquery()
        keys = [again.c[inner.c.keys().index(key.key)] for key in keys] + [again.c.perfkit_number]
        entities = {
            place: (entity, [again.c[column.key] for column in columns])
            for place, (entity, columns) in entities.items()
        }
        own = [again.c[column.key] for column in own]
        inner = again
    outer = _joined_back(statement, inner, own, names, entities)
    made = [Term(key, key, term.descending, term.nulls_first) for key, term in zip(keys, terms, strict=False)]
    made += [Term(key, key) for key in keys[len(made) :]]
    return outer, made, len(names)


def _inner(statement: Any, terms: Sequence[Term]) -> tuple[Any, list[str], dict[int, tuple[Any, list[Any]]], list[Any]]:
    """The statement as a subquery of keys, columns and primary keys of entities, by their places."""
    names: list[str] = []
    columns: list[Any] = []
    identities: dict[int, tuple[Any, list[str]]] = {}
    for place, each in enumerate(statement.column_descriptions):
        entity = inspect(each["expr"], raiseerr=False)
        names.append(str(each["name"]))
        if getattr(entity, "is_mapper", False) or getattr(entity, "is_aliased_class", False):
            labels = []
            for number, column in enumerate(_identity(each["expr"], entity)):
                labels.append(f"perfkit_identity_{place}_{number}")
                columns.append(column.label(labels[-1]))
            identities[place] = (each["expr"], labels)
        else:
            expression = each["expr"]
            bare = expression.element if hasattr(expression, "element") and _is_label(expression) else expression
            columns.append(bare.label(f"perfkit_column_{place}"))
    of_keys = [term.expression.label(_NAME.format(number)) for number, term in enumerate(terms)]
    inner = statement.with_only_columns(*columns, *of_keys, maintain_column_froms=True).subquery()
    entities = {place: (entity, [inner.c[label] for label in labels]) for place, (entity, labels) in identities.items()}
    return inner, names, entities, [inner.c[_NAME.format(number)] for number in range(len(terms))]


def _is_label(expression: Any) -> bool:
    return bool(expression.__visit_name__ == "label")


def _identity(entity: Any, inspected: Any) -> list[Any]:
    """The primary key of an entity or an alias of one, as its attributes."""
    mapper = inspected.mapper
    return [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


def _joined_back(
    statement: Any, inner: Any, own: Sequence[Any], names: Sequence[str], entities: dict[int, tuple[Any, list[Any]]]
) -> Any:
    """A select of what the statement selects, from its subquery; an entity that an outer join lacked is None."""
    columns = iter(own)
    selected = [
        entities[place][0] if place in entities else next(columns).label(name) for place, name in enumerate(names)
    ]
    outer = select(*selected).select_from(inner)
    for entity, identity in entities.values():
        ours = _identity(entity, inspect(entity))
        condition = true()
        for mine, theirs in zip(ours, identity, strict=True):
            condition = condition & (mine == theirs)
        outer = outer.outerjoin(entity, condition)
    options = options_of(statement) if entities else ()
    return outer.options(*options).execution_options(**statement.get_execution_options())
