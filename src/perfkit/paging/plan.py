"""A statement made ready for pages: its keys are selected behind its own columns, and it is ordered by them.

    select(Bin).order_by(Bin.status)
    → SELECT bins.*, bins.status, bins.id FROM bins WHERE (bins.status, bins.id) > (…) ORDER BY bins.status, bins.id

Keys are columns of their own, never attributes of the entities: those may be deferred, changed in the session, or
rounded by their type. What a page hands out has none of them.

Where the condition can only stand around the statement, it becomes a subquery of primary keys, columns and keys, and
entities are joined back to it, so that their loader options work as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import starmap
from typing import Any

from sqlalchemy import (
    Column,
    CompoundSelect,
    Dialect,
    Integer,
    Label,
    Select,
    Table,
    bindparam,
    func,
    inspect,
    literal_column,
    select,
)
from sqlalchemy.orm import Bundle, Session

from perfkit.errors import PagingDeclarationError
from perfkit.paging.analysis import Analysis, analysed, place_of
from perfkit.paging.joining import (
    NAME,
    Inside,
    entity_of_a_table,
    is_entity,
    joined_back,
    keys_inside,
    narrowed,
    of_whole_rows,
    ordering_of,
)
from perfkit.paging.keys import Key, form_of, is_as_it_is, key_of
from perfkit.paging.seek import Branch, branches
from perfkit.paging.together import can_be_together, limit_bound, together
from perfkit.sqla.ordering import Term, UnknownTerm, parts_inside, terms_of
from perfkit.sqla.private import (
    locks_rows,
    parts_of,
    reads_own_joins,
    roots_of,
)

OFFSET = "perfkit_offset"


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement without order, its keys, and where in a row they are: the first `width` columns are the caller's."""

    statement: Any
    keys: tuple[Key, ...]
    ordering: str
    """What tells it from other orderings, in every process."""
    condition: Any
    """The WHERE that it came with."""
    dialect: Dialect
    width: int
    places: tuple[int, ...]
    narrow: Any
    """Of entities alone, by a plain SELECT: the same with their primary keys only, to be joined back."""
    of_branches: Callable[[Sequence[Key], Sequence[Branch]], Any] | None
    """One statement of several branches, if there can be one."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What its blanks stand for."""
    _made: dict[Any, list[Any]] = field(default_factory=dict, compare=False, repr=False)

    def start(self, *, backward: bool) -> Any:
        """The statement of a page at an end."""
        return self._kept(backward, lambda: [self._page(self._keys(backward), None)])[0]

    def skipping(self) -> Any:
        """The statement of a page by number: rows are skipped as keys, and entities joined to those that are left."""
        return self._kept(OFFSET, lambda: [self._skipping()])[0]

    @property
    def rows(self) -> str:
        """The same in every process: which rows there are on all pages."""

        def made() -> list[str]:
            compiled = self.statement.compile(dialect=self.dialect)
            schemas = self.statement.get_execution_options().get("schema_translate_map")
            return [f"{compiled} {sorted(compiled.params.items(), key=str)!r} {schemas!r}"]

        return f"{self._kept('rows', made)[0]} {sorted(self.values.items())!r}"

    def _skipping(self) -> Any:
        offset = bindparam(OFFSET, type_=Integer)
        if self.narrow is None:
            return self._page(self.keys, None).offset(offset)
        return self.narrow(self.keys, limit_bound(), offset)

    def beyond(self, nulls: tuple[bool, ...], *, backward: bool, inclusive: bool) -> list[Any]:
        """The statements of a page beyond a position, to be read until it is full: one, if there can be one."""

        def made() -> list[Any]:
            keys = self._keys(backward)
            found = list(branches(keys, nulls, inclusive=inclusive))
            if len(found) > 1 and self.of_branches is not None:
                return [self.of_branches(keys, found)]
            return [self._page(keys, branch) for branch in found]

        return self._kept((nulls, backward, inclusive), made)

    def _kept(self, shape: Any, make: Callable[[], list[Any]]) -> list[Any]:
        found = self._made.get(shape)
        if found is None:
            found = self._made[shape] = make()
        return found

    def _keys(self, backward: bool) -> Sequence[Key]:
        return [key.reversed() for key in self.keys] if backward else self.keys

    def _page(self, keys: Sequence[Key], branch: Branch | None) -> Any:
        """The rows of a branch, or of everything, in the order of `keys`, as many as LIMIT is bound to."""
        statement = self.statement.order_by(*ordering_of(keys))
        if branch is not None:
            statement = (statement.having if branch.aggregate else statement.where)(branch.condition)
        return statement.limit(limit_bound())


def plan_of(statement: Any, dialect: Dialect, *, assume_unique: bool) -> Plan:
    """How `statement` is paged on a database.

    Raises:
        PagingDeclarationError: it is not a SELECT or a compound of them, or it cannot be paged.
    """
    if not isinstance(statement, Select | CompoundSelect):
        raise PagingDeclarationError(f"give a select() or a union(), not {type(statement).__name__}")
    try:
        terms = _distinct(terms_of(statement))
    except UnknownTerm as unknown:
        raise PagingDeclarationError(f"ORDER BY {unknown}: give a column, an expression or a label") from None
    analysis = analysed(statement, terms, assume_unique=assume_unique)
    terms += [Term(column, column) for column in (tie(statement) for tie in analysis.ties)]
    width = 1 if isinstance(statement, CompoundSelect) else len(statement.column_descriptions)
    plain: Any = statement.order_by(None)
    named = terms
    of_branches: Callable[[Sequence[Key], Sequence[Branch]], Any] | None = None
    if analysis.wrapped:
        if parts_of(statement).distinct_on:
            plain = statement.order_by(*(term.shown for term in terms[len(terms) - len(analysis.ties) :]))
        source, terms, inside = _wrapped(plain, terms, numbered=analysis.numbered)
        of_branches = partial(_of_subquery, plain, source, inside, dialect)
        plain, width = joined_back(plain, source, inside), len(inside.names)
    keys = _keys(terms, analysis, dialect)
    own = {} if analysis.wrapped or any(key.aggregate for key in keys) else _selected_as_they_are(statement, dialect)
    found = [own.get(key.term.expression) for key in keys]
    added = iter(range(width, width + len(keys)))
    places = tuple(next(added) if place is None else place for place in found)
    reads = [key.read.label(key.name) for key, place in zip(keys, found, strict=True) if place is None]
    narrow = None
    if not analysis.wrapped and _is_of_entities(statement, keys):
        narrow, of_branches = partial(_deferred, plain, dialect), partial(_of_entities, plain, dialect)
    if locks_rows(statement) or not can_be_together(keys, dialect) or min(places, default=width) < width:
        of_branches = None
    of_keys = starmap(partial(_text_of_key, dialect), zip(keys, [*named, *keys[len(named) :]], strict=False))
    ordering = f"{dialect.name}: {';'.join(of_keys)}"
    condition = getattr(statement, "whereclause", None)
    selecting = plain.add_columns(*reads) if reads else plain
    return Plan(selecting, keys, ordering, condition, dialect, width, places, narrow, of_branches)


def _selected_as_they_are(statement: Any, dialect: Dialect) -> dict[Any, int]:
    """Columns that a statement selects and that no type changes on their way from the driver, with their places."""
    selected = list(statement.selected_columns)
    described = statement.column_descriptions
    if len(selected) != len(described) or any(_is_entity_or_bundle(each["expr"]) for each in described):
        return {}  # entities and bundles, also of one column
    found: dict[Any, int] = {}
    for place, each in enumerate(selected):
        bare = each.element if isinstance(each, Label) else each
        if isinstance(bare, Column) and is_as_it_is(bare, dialect):
            found.setdefault(bare, place)
    return found


def _text_of_key(dialect: Dialect, key: Key, term: Term | Key) -> str:
    """`key` after what the statement was given as it, since a wrapped one has names of ours.

    With what its values are, for what was a number when a cursor was made can be a text now.
    """
    way = "desc" if key.term.descending else "asc"
    shown = _text_of_term(term.expression, dialect) if isinstance(term, Term) else "number"
    return f"{shown} {way} {key.nulls_first}"


def _text_of_term(expression: Any, dialect: Dialect) -> str:
    return f"{text_of(expression)} {_tables_of(expression)} {form_of(expression.type, dialect)}"


def _tables_of(expression: Any) -> list[str]:
    """The columns of tables that it is made of, since two aliases or subqueries may have one name."""
    if isinstance(expression, Column) and isinstance(expression.table, Table):
        return []
    bases = {base for part in parts_inside(expression) for base in getattr(part, "base_columns", ())}
    return sorted(text_of(each) for each in bases if isinstance(each, Column) and isinstance(each.table, Table))


def text_of(expression: Any, values: Mapping[str, Any] | None = None) -> str:
    """The same in every process: SQL, and the values in it; `values` are those of blanks."""
    if isinstance(expression, Column) and isinstance(expression.table, Table):
        return f"{expression.table.fullname}.{expression.name}"
    compiled = expression.compile()
    return f"{compiled} {sorted({**compiled.params, **(values or {})}.items())!r}"


def _is_entity_or_bundle(selected: Any) -> bool:
    return isinstance(selected, Bundle) or _is_entity(selected)


def _is_entity(selected: Any) -> bool:
    return is_entity(inspect(selected, raiseerr=False))


def _is_of_entities(statement: Any, keys: Sequence[Key]) -> bool:
    """Whether nothing but entities is selected, and each row is one of them."""
    parts = parts_of(statement)
    mapped = all(_is_entity(each["expr"]) for each in statement.column_descriptions)
    grouped = parts.group_by or parts.is_distinct or any(key.aggregate for key in keys)
    return mapped and not grouped and not locks_rows(statement) and not reads_own_joins(statement)


def _deferred(statement: Any, dialect: Dialect, keys: Sequence[Key], limit: Any, offset: Any) -> Any:
    """A page by number: its primary keys, and the entities joined to them, in the order of its keys."""
    ordered = statement.order_by(*ordering_of(keys)).limit(limit).offset(offset)
    narrow, inside = narrowed(ordered, [key.term for key in keys])
    inner = narrow.subquery()
    made = keys_inside(keys, inner, inside, dialect)
    outer = joined_back(statement, inner, inside)
    return outer.add_columns(*(key.read.label(key.name) for key in made)).order_by(*ordering_of(made))


def _of_entities(statement: Any, dialect: Dialect, keys: Sequence[Key], branches: Sequence[Branch]) -> Any:
    """Branches of entities: of whole rows, or of primary keys to which they are joined."""
    entity = entity_of_a_table(statement)
    narrow = narrowed if entity is None else partial(of_whole_rows, entity=entity)
    inside: Any = None
    parts = []
    for branch in branches:
        ordered = statement.where(branch.condition).order_by(*ordering_of(keys))
        part, inside = narrow(ordered, terms=[key.term for key in keys])
        parts.append(part)
    return together(statement, parts, inside, keys, dialect)


def _of_subquery(
    statement: Any, source: Any, inside: Inside, dialect: Dialect, keys: Sequence[Key], branches: Sequence[Branch]
) -> Any:
    """Branches of a statement that is a subquery: each of whole rows, as far as they are not entities."""
    parts = [select(*source.c).where(branch.condition).order_by(*ordering_of(keys)) for branch in branches]
    return together(statement, parts, inside, keys, dialect)


def dialect_of(session: Session, statement: Any) -> Dialect:
    """The dialect of the database that a statement goes to."""
    mapper = next((each.mapper for each in roots_of(statement)), None)
    if mapper is None and not hasattr(statement, "get_children"):
        return session.get_bind().dialect
    return session.get_bind(mapper=mapper, clause=statement).dialect


def _distinct(terms: Sequence[Term]) -> list[Term]:
    """Without what cannot change the order, because it stands in it already."""
    found: dict[int, Term] = {}
    for term in terms:
        found.setdefault(hash(term.expression), term)
    return list(found.values())


def _keys(terms: Sequence[Term], analysis: Analysis, dialect: Dialect) -> tuple[Key, ...]:
    facts = zip(analysis.nullable, analysis.aggregate, strict=True)
    more = len(terms) - len(analysis.nullable)  # what numbered rows are told apart by; the number is the last
    facts_of = [*facts, *[(True, False)] * (more - 1), (False, False)]
    keys = tuple(
        key_of(*(term, NAME.format(number), dialect), nullable=nullable, aggregate=aggregate and not analysis.wrapped)
        for number, (term, (nullable, aggregate)) in enumerate(zip(terms, facts_of, strict=False))
    )
    if dialect.name in ("mysql", "mariadb") and any(key.aggregate for key in keys):
        # its HAVING knows what is selected by name, and nothing of the tables
        return tuple(replace(key, aggregate=True, compared=literal_column(key.name)) for key in keys)
    return keys


def _wrapped(statement: Any, terms: Sequence[Term], *, numbered: bool) -> tuple[Any, list[Term], Inside]:
    """The statement as a subquery, the terms as its columns, and what else it has."""
    if isinstance(statement, CompoundSelect):
        columns = list(statement.selected_columns)
        places = [place_of(term.expression, columns) for term in terms]
        inner: Any = statement.subquery()
        own = [each.key for each in inner.c]
        inside = Inside([str(each.key) for each in columns], own, {}, [own[place] for place in places])
    else:
        narrow, inside = narrowed(statement, terms)
        inner = narrow.subquery()
    if numbered:
        by = [*inside.own, *(name for _, names in inside.entities.values() for name in names)]
        more = [name for name in by if name not in inside.keys]
        number = func.row_number().over(partition_by=[inner.c[name] for name in by]).label("perfkit_number")
        inner = select(*inner.c, number).subquery()
        inside = replace(inside, keys=[*inside.keys, *more, "perfkit_number"])
    keys = [inner.c[name] for name in inside.keys]
    made = [Term(key, key, term.descending, term.nulls_first) for key, term in zip(keys, terms, strict=False)]
    made += [Term(key, key) for key in keys[len(made) :]]
    return inner, made, inside
