"""Which relationships of loaded objects have been used: noticed by a class of their attributes that can be taken off.

Only relationships that a statement loads eagerly are looked at, while somebody wants to know: their attributes become
`Reads`, which notes and then does the same. 0.3 µs for a read of such a relationship; columns are left as they are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import InstrumentedAttribute, RelationshipProperty
from sqlalchemy.orm.attributes import instance_state

from perfkit.sqla.private import run_number

_tracked: dict[RelationshipProperty[Any], list[InstrumentedAttribute[Any]]] = {}
_read: set[tuple[str, int | None]] = set()

MAX_READS = 200_000  # 30 MB, of a window that is open for very long

EARLIER = "**"
"""In place of a name: all of them, of all runs up to this one; there were too many to be noted."""

ANY = "*"
"""In place of a name: all of them, as by pickling."""


class Reads(InstrumentedAttribute[Any]):  # pyright: ignore[reportIncompatibleVariableOverride] - of __doc__
    """An attribute that notes for which query's objects it is used.

    Who assigns uses it, too: what was there before is compared, and would be loaded if it were not there.
    """

    __slots__ = ()
    inherit_cache = True

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is not None:
            self._note(instance)
        return super().__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> None:
        self._note(instance)
        super().__set__(instance, value)

    def __delete__(self, instance: Any) -> None:
        self._note(instance)
        super().__delete__(instance)

    def _note(self, instance: Any) -> None:
        state = instance.__dict__.get("_sa_instance_state")
        if state is not None:
            _read.add((self.key, state.runid))


# statements are told apart by the names of classes in them, too
Reads.__name__, Reads.__qualname__ = InstrumentedAttribute.__name__, InstrumentedAttribute.__qualname__
Reads.__module__ = InstrumentedAttribute.__module__


def is_tracked() -> bool:
    """Whether any relationship is looked at."""
    return bool(_tracked)


def track(prop: Any) -> None:
    """Note from now on who reads this relationship."""
    if len(_read) > MAX_READS:
        _read.clear()
        _read.add((EARLIER, run_number()))
    if prop in _tracked or not isinstance(prop, RelationshipProperty):
        return
    changed = _tracked[prop] = []
    for mapper in prop.parent.self_and_descendants:
        attribute = mapper.class_.__dict__.get(prop.key)
        if type(attribute) is InstrumentedAttribute:
            attribute.__class__ = Reads
            changed.append(attribute)


def untrack() -> None:
    """Give all relationships their own class back, and forget who read them."""
    for attributes in _tracked.values():
        for attribute in attributes:
            attribute.__class__ = InstrumentedAttribute
    _tracked.clear()
    _read.clear()


def forget_reads(*, before: int) -> None:
    """Of objects that were loaded before this run: no window that is still open has their query."""
    _read.difference_update([each for each in frozenset(_read) if each[1] is None or each[1] < before])


def note_whole(instance: Any) -> None:
    """What is pickled is used, whatever of it is read afterwards; what is deleted, by the cascades of the flush."""
    _read.add((ANY, instance_state(instance).runid))


def reads() -> frozenset[tuple[str, int | None]]:
    """Names of relationships, and the run by which the objects were loaded whose they were."""
    return frozenset(_read)
