"""Page: some rows of an ordering, and what leads to those around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from perfkit.codec.own import keeps
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


@dataclass(frozen=True, slots=True)
class Edges:
    """The cursors of a page that has just been read, written when they are asked for, each once.

    Encrypted ones are never the same twice, and what a cache keeps of the page has to lead to what it keeps of the
    next.
    """

    rows: Sequence[Any]
    places: Sequence[int]
    asked: Position | None
    write: Callable[[Position], str]
    written: dict[int, str] = field(default_factory=dict)

    @property
    def next(self) -> str | None:
        return self._outermost(-1, Side.BEFORE)

    @property
    def previous(self) -> str | None:
        return self._outermost(0, Side.AFTER)

    def cursor(self, place: int) -> str:
        place = range(len(self.rows))[place]
        text = self.written.get(place)
        if text is None:
            values = tuple(self.rows[place][each] for each in self.places)
            text = self.written[place] = self.write(Position(values))
        return text

    def all(self) -> list[str]:
        return list(map(self.cursor, range(len(self.rows))))

    def _outermost(self, place: int, side: Side) -> str | None:
        """The cursor of the outermost item; of an empty page, where it would have been.

        Who went past the end comes back to the last row, which is not beyond the cursor but at it.
        """
        if self.rows:
            return self.cursor(place)
        if self.asked is None:
            return None
        if self.asked.side is not Side.AT:
            side = self.asked.side
        return self.written.get(side) or self.written.setdefault(side, self.write(Position(self.asked.values, side)))


@dataclass(frozen=True, slots=True)
class Told:
    """The cursors of a page that was kept by a cache: their text is all that is known of them."""

    next: str | None = None
    previous: str | None = None
    items: Sequence[str] = ()

    def cursor(self, place: int) -> str:
        return self.items[place]

    def all(self) -> list[str]:
        return list(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Rows in the order of their statement, with cursors to what is before and after them.

    `items` has what the statement selects: entities or values if it selects one thing, rows if it selects several.

    Of the side where a page came from, `has_next` or `has_previous` is true because a row stood there when its cursor
    was made; it is not asked again. Of the other side it has been read.
    """

    items: list[T]
    has_next: bool
    has_previous: bool
    total: Total | None = None
    is_backward: bool = False
    """Whether it was read from its end: `before` a cursor, or as the `last`."""
    _edges: Edges | Told = field(default=Told(), repr=False, compare=False)

    @property
    def next(self) -> str | None:
        """What to ask for as `after`; None if nothing comes after this page."""
        return self._edges.next if self.has_next else None

    @property
    def previous(self) -> str | None:
        """What to ask for as `before`; None if nothing comes before this page."""
        return self._edges.previous if self.has_previous else None

    def cursor(self, place: int) -> str:
        """The cursor of one item, to ask for what comes after or before it."""
        return self._edges.cursor(place)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def _parts(page: Page[Any]) -> Sequence[object]:
    total = page.total
    return (
        page.items,
        page.is_backward,
        *(page.next if page.has_next else False, page.previous if page.has_previous else False),
        page._edges.all(),  # noqa: SLF001 - of its own module
        None if total is None else [total.value, total.kind, total.counted, total.counted_at],
    )


def _page_of(parts: Any) -> Page[Any]:
    items, is_backward, after, before, cursors, total = parts
    for text in (*cursors, *(each for each in (after, before) if each not in (False, None))):
        if type(text) is not str:
            raise ValueError("a cursor that is no text")
    return Page(
        items=items,
        has_next=after is not False,
        has_previous=before is not False,
        total=None if total is None else Total(*total),
        is_backward=is_backward is True,
        _edges=Told(after or None, before or None, cursors),
    )


keeps(Page, _parts, _page_of, "items", "is_backward", "next", "previous", "cursors", "total")
