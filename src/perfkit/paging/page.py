"""Page: some rows of an ordering, and what leads to those around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar

from perfkit.paging.cursor import Position, Side

T = TypeVar("T")

Kind = Literal["exact", "at_least", "estimate", "cached", "carried"]


@dataclass(frozen=True, slots=True)
class Total:
    """How many rows there are on all pages, and how that is known.

    `at_least`: counting was stopped there. `estimate`: what the planner expects. `cached`: counted earlier. `carried`:
    counted for an earlier page of the same walk, in the way that `counted` names, at `counted_at`.
    """

    value: int
    kind: Kind = "exact"
    counted: Kind | None = None
    counted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Rows in the order of their statement, with cursors to what is before and after them.

    `items` has what the statement selects: entities or values if it selects one thing, rows if it selects several.

    Of the side where a page came from, `has_next` or `has_previous` is true because a row stood there when its cursor
    was made; it is not asked again. Of the other side it has been read.
    """

    __instead__: ClassVar = (
        "It makes its cursors when they are asked for: return a model that has them, as KeysetPage.of(page) of "
        "perfkit.integrations.fastapi."
    )
    items: list[T]
    has_next: bool
    has_previous: bool
    total: Total | None = None
    is_backward: bool = False
    """Whether it was read from its end: `before` a cursor, or as the `last`."""
    _rows: Sequence[Any] = field(default=(), repr=False, compare=False)
    _places: Sequence[int] = field(default=(), repr=False, compare=False)
    _asked: Position | None = field(default=None, repr=False, compare=False)
    _write: Callable[[Position], str] | None = field(default=None, repr=False, compare=False)

    @property
    def next(self) -> str | None:
        """What to ask for as `after`; None if nothing comes after this page."""
        return self._edge(-1, Side.BEFORE) if self.has_next else None

    @property
    def previous(self) -> str | None:
        """What to ask for as `before`; None if nothing comes before this page."""
        return self._edge(0, Side.AFTER) if self.has_previous else None

    def cursor(self, place: int) -> str:
        """The cursor of one item, to ask for what comes after or before it."""
        return self._text(Position(tuple(self._rows[place][each] for each in self._places)))

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def _edge(self, place: int, side: Side) -> str | None:
        """The cursor of the outermost item; of an empty page, where it would have been.

        Who went past the end comes back to the last row, which is not beyond the cursor but at it.
        """
        if self._rows:
            return self.cursor(place)
        if self._asked is None:
            return None
        at = self._asked.side is Side.AT
        return self._text(Position(self._asked.values, side if at else self._asked.side))

    def _text(self, position: Position) -> str:
        assert self._write is not None, "a page that keyset() made can write cursors"
        return self._write(position)
