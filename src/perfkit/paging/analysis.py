"""What a statement needs to be paged: which keys are appended, which can be NULL, and where a condition may stand.

A condition on a key goes into WHERE, or into HAVING if the key is an aggregate. Where neither can be – a window
function counts rows that the condition would take away, DISTINCT ON keeps the first of them, a UNION has no WHERE – the
statement becomes a subquery and the condition stands around it.

Little of this depends on values, so it is kept for statements of one structure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, CompoundSelect, Label, Table, TableSample, TextClause

from perfkit.errors import NotUniqueOrder, PagingDeclarationError
from perfkit.sqla.ordering import (
    Term,
    expressions_of,
    gives_rows,
    groups_twice,
    has_aggregate,
    has_window,
    is_volatile,
    parts_inside,
)
from perfkit.sqla.private import Parts, collection_of_joins, parts_of, structure_of
from perfkit.sqla.uniqueness import (
    Source,
    Sources,
    is_bag,
    is_one_row,
    keys_of,
    may_be_null,
    selected_may_be_null,
    sources_of,
)

# A tie-breaker is found again in another statement of the same structure: a column of a table, or a place in it.
Tie = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Analysis:
    """`ties` follow the statement's own keys; `nullable` and `aggregate` say of all of them, in order, what they are.

    `numbered`: rows can be equal in all that is selected, so equal ones are numbered and the number is the last key.
    """

    wrapped: bool
    numbered: bool
    ties: tuple[Tie, ...]
    nullable: tuple[bool, ...]
    aggregate: tuple[bool, ...]


_KEPT: OrderedDict[Any, Analysis] = OrderedDict()
_KEEPS = 500


def analysed(statement: Any, terms: Sequence[Term], *, assume_unique: bool) -> Analysis:
    """The analysis of a statement, from an earlier one of its structure if there was any.

    Raises:
        PagingDeclarationError: it has a LIMIT or OFFSET of its own.
        NotUniqueOrder: nothing shows that its rows can be told apart, and not `assume_unique`.
    """
    structure = structure_of(statement)
    if structure is None:
        return _analyse(statement, terms, assume_unique=assume_unique)
    # what a NULL can come from is the one thing that depends on values: coalesce(x, :y)
    key = (structure[0], tuple(value is None for value in structure[1]), assume_unique)
    found = _KEPT.get(key)
    if found is None:
        found = _KEPT[key] = _analyse(statement, terms, assume_unique=assume_unique)
        let_go(_KEPT, _KEEPS)
    return found


def let_go(held: OrderedDict[Any, Any], most: int) -> None:
    """Keep no more than the newest; another thread may be doing so."""
    while len(held) > most:
        try:
            held.popitem(last=False)
        except KeyError:  # pragma: no cover - it was
            return


def _analyse(statement: Any, terms: Sequence[Term], *, assume_unique: bool) -> Analysis:
    parts = parts_of(statement)
    if parts.is_limited:
        raise PagingDeclarationError(
            "the statement has a LIMIT or OFFSET of its own: page a subquery, or leave it out."
        )
    for term in terms:
        if is_volatile(term.expression):
            raise PagingDeclarationError(f"ORDER BY {term.expression}: it has another value each time it is asked for.")
    if isinstance(statement, CompoundSelect):
        return _of_compound(statement, parts, terms)
    if (collection := collection_of_joins(statement)) is not None:
        raise PagingDeclarationError(
            f"contains_eager({collection}): a page of joined rows would cut the collection short; "
            "load it by selectinload or joinedload."
        )
    sources = sources_of(statement)
    for source in sources.all:
        if isinstance(source.selectable, TableSample) and source.selectable.seed is None:
            raise PagingDeclarationError("tablesample() has other rows each time it is asked for: give it a seed=.")
    selected = list(statement.selected_columns)
    if not selected or any(isinstance(each, TextClause) for each in selected):
        raise PagingDeclarationError("it is not known which columns are selected: give columns or entities, not text.")
    windowed = any(map(has_window, (*selected, *(term.expression for term in terms))))
    search = _Search(statement, parts, terms, sources, selected)
    numbered, subtotals = False, any(map(groups_twice, parts.group_by))
    if assume_unique or is_one_row(statement):
        ties: list[Tie] = []
    elif subtotals or any(map(gives_rows, selected)):
        ties, numbered = [], True
    elif parts.group_by:
        ties = search.of_groups()
    elif parts.is_distinct and not parts.distinct_on:
        ties = search.of_selected()
    else:
        ties, numbered = search.of_sources()
    keys = [*(term.expression for term in terms), *(tie(statement) for tie in ties)]
    return Analysis(
        wrapped=windowed or numbered or bool(parts.distinct_on),
        numbered=numbered,
        ties=tuple(ties),
        nullable=tuple(subtotals or may_be_null(each, sources) for each in keys),
        aggregate=tuple(map(has_aggregate, keys)),
    )


def _of_compound(statement: Any, parts: Parts, terms: Sequence[Term]) -> Analysis:
    """All columns tell the rows of a UNION apart; those of UNION ALL are numbered besides."""
    selected = list(statement.selected_columns)
    named = [term.expression for term in terms]
    places = [number for number, each in enumerate(selected) if not _is_among(each, named)]
    of_terms = [place_of(each, selected) for each in named]
    return Analysis(
        wrapped=True,
        numbered=parts.compound.endswith("ALL"),
        ties=tuple(map(_selected, places)),
        nullable=tuple(selected_may_be_null(statement, place) for place in (*of_terms, *places)),
        aggregate=(False,) * len(selected),
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """For tie-breakers."""

    statement: Any
    parts: Parts
    terms: Sequence[Term]
    sources: Sources
    selected: Sequence[Any]

    def of_sources(self) -> tuple[list[Tie], bool]:
        """Primary keys of what is in FROM; and whether rows have to be numbered, because something there has none."""
        known: set[Any] = {term.expression for term in self.terms if isinstance(term.expression, Column)}
        lacking = self.sources.lacking(self.sources.closure(known))
        if not lacking:
            return [], False
        for source in lacking:  # one that gives all the others
            for key in keys_of(source.selectable)[:1]:
                if not self.sources.lacking(self.sources.closure(known | key)):
                    return [self._tie(each) for each in _in_order(key, source) if each not in known], False
        ties: list[Any] = []
        for source in lacking:
            found = self.sources.closure(known | set(ties))
            if source in found:
                continue
            keys = keys_of(source.selectable)
            if not keys and is_bag(source.selectable):
                return [], True
            if not keys:
                raise NotUniqueOrder(self._names(), [f"a unique column of {source.name}"])
            ties += [each for each in _in_order(keys[0], source) if each not in found]
        return [self._tie(each) for each in ties], False

    def _tie(self, column: Any) -> Tie:
        """A column of a table is the same in each statement; that of an alias or a subquery is each time another."""
        if isinstance(column.table, Table):
            return lambda statement: column
        place = next(n for n, source in enumerate(self.sources.all) if column in set(source.selectable.c))
        key = column.key
        return lambda statement: sources_of(statement).all[place].selectable.c[key]

    def of_groups(self) -> list[Tie]:
        """What the rows are grouped by."""
        groups = expressions_of(self.statement, self.parts.group_by)
        return [_group(place) for place in self._fewest(groups)]

    def of_selected(self) -> list[Tie]:
        """Of a DISTINCT, what it selects; its keys have to follow from that, or they would make equal rows differ."""
        columns = [each.element if isinstance(each, Label) else each for each in self.selected]
        found = self.sources.closure({each for each in columns if isinstance(each, Column)})
        for term in self.terms:
            inside = {each for each in parts_inside(term.expression) if isinstance(each, Column)}
            if not inside <= found and not _is_among(term.expression, columns):
                raise PagingDeclarationError(f"ORDER BY {term.shown}: a DISTINCT is ordered by what it selects.")
        return [_selected(place) for place in self._fewest(columns)]

    def _fewest(self, wanted: Sequence[Any]) -> list[int]:
        """Places in `wanted` that give, with the terms, all of it: one primary key if that is enough."""
        named = [term.expression for term in self.terms]
        known = {each for each in named if isinstance(each, Column)}

        def open_with(places: Sequence[int]) -> list[int]:
            chosen = [*named, *(wanted[place] for place in places)]
            found = self.sources.closure(known | {wanted[place] for place in places})
            return [n for n, each in enumerate(wanted) if not _is_among(each, chosen) and not _follows(each, found)]

        if not open_with([]):
            return []
        for source in self.sources.all:
            for key in keys_of(source.selectable):
                places = [n for n, each in enumerate(wanted) if each in key and not _is_among(each, named)]
                if places and not open_with(places):
                    return places
        chosen: list[int] = []
        while left := open_with(chosen):
            chosen.append(left[0])
        return chosen

    def _names(self) -> list[str]:
        return [str(term.shown) for term in self.terms]


def _in_order(key: Any, source: Source) -> list[Any]:
    return [each for each in source.selectable.c if each in key]


def _follows(expression: Any, found: set[Any]) -> bool:
    """Whether known columns give its value."""
    columns = [each for each in parts_inside(expression) if isinstance(each, Column)]
    return bool(columns) and all(each in found for each in columns) and expression in found


def place_of(expression: Any, selected: Sequence[Any]) -> int:
    """Which of the columns of a compound it is. Raises: PagingDeclarationError: none."""
    for place, each in enumerate(selected):
        if _is_among(each, [expression]):
            return place
    raise PagingDeclarationError(f"ORDER BY {expression}: order a UNION by the columns that it selects.")


def _is_among(expression: Any, others: Sequence[Any]) -> bool:
    bare = expression.element if isinstance(expression, Label) else expression
    for each in others:
        other = each.element if isinstance(each, Label) else each
        if bare is other or hash(bare) == hash(other) or bare.compare(other):
            return True
    return False


def _group(place: int) -> Tie:
    return lambda statement: expressions_of(statement, parts_of(statement).group_by)[place]


def _selected(place: int) -> Tie:
    def tie(statement: Any) -> Any:
        found = list(statement.selected_columns)[place]
        return found.element if isinstance(found, Label) and not isinstance(statement, CompoundSelect) else found

    return tie
