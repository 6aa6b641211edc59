"""Rows that become entities of a session without a statement of it.

placer              ClassManager._state_constructor, ._state_setter, what InstanceState.__init__ and
IdentityMap._add_unpresent do, IdentityMap._dict, ._wr    else: make_transient_to_detached() and Session.add()
list_putter         QueryableAttribute.impl, .dispatch.init_collection    else: init_collection()
tell_loaded, tell_refreshed    dispatch.load, .refresh, .loaded_as_persistent    else: their listeners are not called
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from weakref import ref

from sqlalchemy.orm import ClassManager, InstanceState, Mapper, Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import init_collection, instance_state, set_committed_value
from sqlalchemy.orm.collections import CollectionAdapter, InstrumentedList


@contextmanager
def noticing_held(session: Session, held: Callable[[], None]) -> Iterator[None]:
    """Call `held` when the session hands out an entity, without SQL or over a row, that it has now."""
    identity_map = session.identity_map
    before = frozenset(identity_map.keys())
    outer = identity_map.get
    is_nested = "get" in vars(identity_map)

    def get(key: Any, default: Any = None) -> Any:
        if key in before:
            held()
        return outer(key, default)

    identity_map.get = get  # type: ignore[method-assign]
    try:
        yield
    finally:
        if is_nested:
            identity_map.get = outer  # type: ignore[method-assign]
        else:
            del identity_map.get


_PLACE = """\
def place(rows, session, complete):
    identity_map = session.identity_map
    held, states, here, session_id = identity_map.get, identity_map._dict, identity_map._wr, session.hash_key
    found, again = [], set()
    try:
        for {values}, in rows:
            key = (identity_class, ({identity},), None)
            entity = held(key) if key in states else None
            if entity is None:
                entity = new(cls)
                state = new_state(InstanceState)
                state.class_ = cls
                state.manager = manager
                state.obj = ref(entity, state._cleanup)
                state.committed_state = {{}}
                state.expired_attributes = set({unloaded})
                entity._sa_instance_state = state
                state.key = key
                state.session_id = session_id
                state._instance_dict = here
                states[key] = state
                have = entity.__dict__
                {sets}
            else:
                complete(entity, ({values},))
                again.add(len(found))
            found.append(entity)
    except BaseException:
        take_out(each for place, each in enumerate(found) if place not in again)
        raise
    return found, [each for place, each in enumerate(found) if place not in again] if again else found
"""

Place = Callable[[Iterable[Sequence[Any]], Session, Callable[[Any, Sequence[Any]], None]], tuple[list[Any], list[Any]]]


def placer(mapper: Mapper[Any], names: Sequence[str], places: Sequence[int], unloaded: Sequence[str]) -> Place:
    """What turns rows of `names` into a session's entities, as a load would: all of them, and those new in it.

    `places` are those of the primary key, `unloaded` columns that are to come when they are asked for. Of an entity
    that the session holds, the function that it is given makes what it likes; if that raises, nothing new stays in the
    session. Compiled for the class, with what SQLAlchemy calls for each entity written out: twice as fast as calls of
    `new_instance` and `dict.update`.
    """
    manager: Any = mapper.class_manager
    identity_class = mapper.identity_key_from_primary_key(tuple(places))[0]
    if not _is_known_how(manager):
        return partial(_place_detached, mapper, names, places, identity_class)
    source = _PLACE.format(
        values=", ".join(f"v{number}" for number in range(len(names))),
        identity=", ".join(f"v{place}" for place in places),
        unloaded="unloaded" if unloaded else "",
        sets="\n                ".join(f"have[{name!r}] = v{number}" for number, name in enumerate(names)),
    )
    scope: dict[str, Any] = {
        "InstanceState": InstanceState,
        "cls": mapper.class_,
        "identity_class": identity_class,
        "manager": manager,
        "new": mapper.class_.__new__,
        "new_state": InstanceState.__new__,
        "ref": ref,
        "take_out": take_out,
        "unloaded": tuple(unloaded),
    }
    exec(compile(source, f"<entities of {mapper.class_.__qualname__}>", "exec"), scope)  # noqa: S102 - numbers, and names as literals
    made: Place = scope["place"]
    return made


class _Sample:
    """What a state is made for, to see what that does."""


def _is_known_how(manager: Any) -> bool:
    """Whether SQLAlchemy makes states, and puts them into sessions, by doing what `_PLACE` does and nothing else."""
    sample, identity_map, key = _Sample(), cast(Any, Session().identity_map), (_Sample, (1,), None)
    try:
        make, put, usual = manager._state_constructor, manager._state_setter, ClassManager._state_setter  # noqa: SLF001
        state: Any = make(sample, manager)
        put(sample, state)
        state.key = key
        identity_map._add_unpresent(state, key)  # noqa: SLF001
        states, here, let_go = identity_map._dict, identity_map._wr, state._cleanup  # noqa: SLF001
        return (
            (make, put, set(InstanceState.__slots__)) == (InstanceState, usual, _SLOTS)
            and (state.class_, state.manager, state.obj()) == (_Sample, manager, sample)
            and (state.committed_state, state.expired_attributes, state.obj.__callback__) == ({}, set(), let_go)
            and (vars(sample), vars(state)) == ({"_sa_instance_state": state}, {"key": key, "_instance_dict": here})
            and states == {key: state}
        )
    except (AttributeError, TypeError):
        return False


_SLOTS = {"__dict__", "__weakref__", "class_", "manager", "obj", "committed_state", "expired_attributes"}


def _place_detached(
    mapper: Mapper[Any],
    names: Sequence[str],
    places: Sequence[int],
    identity_class: type,
    rows: Iterable[Sequence[Any]],
    session: Session,
    complete: Callable[[Any, Sequence[Any]], None],
) -> tuple[list[Any], list[Any]]:
    """The same by what SQLAlchemy promises to keep; the session begins, as with any entity that is added to it."""
    found: list[Any] = []
    fresh: list[Any] = []
    try:
        for row in rows:
            entity: Any = session.identity_map.get((identity_class, tuple(row[place] for place in places), None))
            if entity is None:
                entity = mapper.class_manager.new_instance()
                for name, value in zip(names, row, strict=True):
                    if name in mapper.attrs:
                        set_committed_value(entity, name, value)
                    else:
                        entity.__dict__[name] = value
                make_transient_to_detached(entity)
                session.add(entity)
                fresh.append(entity)
            else:
                complete(entity, row)
            found.append(entity)
    except BaseException:
        take_out(fresh)
        raise
    return found, fresh


def take_out(entities: Iterable[Any]) -> None:
    """Let the sessions of these know them no more; not what they lead to, as `expunge` would."""
    for entity in entities:
        make_transient(entity)


Put = Callable[[Iterable[Any], Iterable[Iterable[Any]]], None]


def list_putter(mapper: Mapper[Any], name: str) -> Put:
    """What gives new entities the lists of a relation: `set_committed_value`, filled at once and without events.

    In a fifth of the time that `init_collection` takes for each; that is called where somebody listens to it.
    """
    attribute: Any = mapper.class_manager[name].impl
    slowly = partial(_put_lists, name)
    if not _is_known_list(mapper, attribute):
        return slowly

    def put(entities: Iterable[Any], lists: Iterable[Iterable[Any]]) -> None:
        if attribute.dispatch.init_collection:
            return slowly(entities, lists)
        for entity, members in zip(entities, lists, strict=True):
            made: Any = InstrumentedList(members)
            CollectionAdapter(attribute, instance_state(entity), made)
            entity.__dict__[name] = made
        return None

    return put


def _is_known_list(mapper: Mapper[Any], attribute: Any) -> bool:
    """Whether `init_collection` leaves what `list_putter` does, and nothing else."""
    try:
        if attribute.collection_factory is not InstrumentedList or attribute.dispatch.init_collection:
            return False
        sample, made = mapper.class_manager.new_instance(), cast(Any, InstrumentedList())
        ours = CollectionAdapter(attribute, instance_state(sample), made)
        usual = init_collection(sample, attribute.key)
        put = sample.__dict__.get(attribute.key)
        return (
            [getattr(ours, part) for part in CollectionAdapter.__slots__]
            == [getattr(usual, part) for part in CollectionAdapter.__slots__]
            and (type(put), vars(put), usual.data is put) == (InstrumentedList, {"_sa_adapter": usual}, True)
            and vars(made) == {"_sa_adapter": ours}
        )
    except (AttributeError, TypeError):
        return False


def _put_lists(name: str, entities: Iterable[Any], lists: Iterable[Iterable[Any]]) -> None:
    for entity, members in zip(entities, lists, strict=True):
        init_collection(entity, name)
        list.extend(entity.__dict__[name], members)


def tell_loaded(session: Session, mapper: Mapper[Any], entities: Iterable[Any]) -> None:
    """Call who listens to loads of these: reconstructors, mutable columns, composites, events."""
    load: Any = getattr(getattr(mapper.class_manager, "dispatch", None), "load", None)
    persistent: Any = getattr(session.dispatch, "loaded_as_persistent", None)
    for entity in entities if load or persistent else ():
        state = instance_state(entity)
        if load:
            load(state, None)
        if persistent:
            persistent(session, state)


def tell_refreshed(entity: Any, names: Sequence[str]) -> None:
    """Call who listens to attributes of entities that are loaded later."""
    state: Any = instance_state(entity)
    refresh = getattr(state.manager.dispatch, "refresh", None)
    if refresh:
        refresh(state, None, names)
