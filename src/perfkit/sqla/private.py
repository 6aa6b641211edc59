"""Every name of SQLAlchemy that is not public and that perfkit uses: probed, with what happens without it.

    is_told_to_autocommit   Connection._is_autocommit_isolation   else: execution options only; an engine-wide
                                                              AUTOCOMMIT is then read from the connection
    engine_isolation    Dialect._on_connect_isolation_level       else: None; the isolation level of
                                                              create_engine() is then not noticed
    root_engine         OptionEngine._proxied             else: the engine itself; watch the one of create_engine()
    await_in_greenlet   sqlalchemy.util.await_                else: await_only, its name before 2.1
    mapped_classes      orm.mapper._all_registries,
                        registry._managers                else: none are found; declare `cache_tags` in Table.info
    in_greenlet         sqlalchemy.util.concurrency           else: False; sync code under `run_sync` blocks
    frame_outside_greenlet    greenlet.getcurrent().parent     else: None; lines under an async engine are not found
    placer              ClassManager._state_constructor, ._state_setter,
                        IdentityMap._add_unpresent            else: make_transient_to_detached() and Session.add()
    structure_of        ClauseElement._generate_cache_key     else: None; statements are not cached
    has_listeners_left,
    listeners_left      ORMExecuteState._remaining_events     else: True; statements are not cached, nor loads batched
    is_legacy_query     load_options._legacy_uniquing         else: True; statements are not cached
    wants_unique, require_unique    Result._unique_filter_state    else: a cached result does not ask for `unique()`
    result_of           SimpleResultMetaData(_create_unique_filters=)    else: `unique()` hashes entities
    variants_of         TypeEngine._variant_mapping       else: none are found; a column with `with_variant` is taken
                                                          for what it is elsewhere
    run_number          orm.loading._new_runid            else: 0; objects are told apart by their own run only
    loading_of          _sa_orm_load_options, its _lazy_loaded_from, ._refresh_state, ._is_user_refresh,
                        Select._compile_options           else: public names only; column loads are top queries
    count_rows          ExecutionContext.cursor_fetch_strategy, engine.cursor._DEFAULT_FETCH    else: not counted
    joined_paths        ORMCompileState.attributes        else: none; joined eager loads are not judged
    strategies_of       Select._with_options, Load.context     else: none; a fix is written as if there were none
    mapper_annotated    ClauseElement._annotations        else: None; such a column is taken for its table's
    roots_of            Select._raw_columns, ._annotations    else: Select.column_descriptions, at 20 µs
    wildcards_of        Select._with_options, _WildcardLoad    else: none; profiles then see no `lazyload("*")`
    columns_of          SQLCompiler._result_columns       else: none; neither are rows of them
    locks_rows          Select._for_update_arg            else: False; looped locks are taken for loops
    parts_of            Select._order_by_clauses and the like    else: AttributeError; statements are not paged
    reference_in        _label_reference, _textual_label_reference    else: labels in ORDER BY are not understood
    reads_own_joins     Load.context, local_opts           else: False; contains_eager fails on numbered pages
    options_of          Select._with_options              else: none; a wrapped page has no loader options
    tell_loaded         dispatch.load, .refresh, .loaded_as_persistent    else: their listeners are not called
    run_of, regroup     InstanceState.runid               else: None; nobody has siblings
    new_run             orm.loading._new_runid            else: None; a statement cannot ask to be left alone
    is_clean            Session._is_clean                 else: by its sets, which are made anew each time
    newest_first        WeakInstanceDict._dict            else: all_states(), which copies
    refresh_of          load_options._refresh_state, ._is_user_refresh,
                        compile_options._only_load_props  else: None; columns are not batched
    lazy_binds          RelationshipProperty._get_strategy, _LazyLoader.use_get, ._equated_columns,
                        ._simple_lazy_clause, Mapper._get_clause    else: None; relations are not batched
    with_where          Select._where_criteria            else: LookupError; nothing is batched
    Replay              ChunkedIteratorResult.chunks, .raw, CursorResult.fetchmany of one object,
                        SQLCompiler.compile_state, .orm_setup_cursor_result, .eager_joins    else: nothing is batched
    put_before          AttributeImpl.callable_           else: batched values take the way of a statement
    listeners_of        Session.dispatch.do_orm_execute   else: one is taken to be there; the same slow way
    live_sessions       orm.session._sessions             else: none; a session is batched from its next transaction on
    part_listeners      _ListenerCollection.listeners     else: False; sessions with listeners are not batched
    why_not_batched     says which of these is missing

`tests/facts/test_sqlalchemy.py` says of each that it still does what we think.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from types import FrameType
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy
from sqlalchemy import (
    Column,
    Connection,
    CursorResult,
    Dialect,
    Engine,
    Executable,
    FromClause,
    IteratorResult,
    Result,
    Select,
    inspect,
    select,
    util,
)
from sqlalchemy.engine import cursor as _cursors
from sqlalchemy.engine.cursor import CursorFetchStrategy
from sqlalchemy.engine.result import ChunkedIteratorResult, SimpleResultMetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    ORMExecuteState,
    RelationshipProperty,
    Session,
    loading,
    make_transient_to_detached,
)
from sqlalchemy.orm.attributes import instance_state, manager_of_class, set_committed_value
from sqlalchemy.orm.base import PassiveFlag
from sqlalchemy.orm.context import QueryContext
from sqlalchemy.orm.identity import IdentityMap
from sqlalchemy.types import TypeEngine

try:
    from sqlalchemy.util.concurrency import in_greenlet as _in_greenlet
except ImportError:  # pragma: no cover - a SQLAlchemy that has moved it
    _in_greenlet = None  # type: ignore[assignment]

try:
    from greenlet import getcurrent as _getcurrent  # type: ignore[import-untyped]
except ImportError:  # pragma: no cover - then there is no async engine either
    _getcurrent = None

T = TypeVar("T")

_new_runid: Any = getattr(loading, "_new_runid", None)
_default_fetch: Any = getattr(_cursors, "_DEFAULT_FETCH", None)
PASSIVE_OFF = PassiveFlag.PASSIVE_OFF  # how an attribute is read that may load whatever it takes
_await: Any = getattr(util, "await_", None) or getattr(util, "await_only", None)


def in_greenlet() -> bool:
    """True under `AsyncSession.run_sync` and inside the events of an async engine."""
    return _in_greenlet is not None and _in_greenlet()


def frame_outside_greenlet() -> FrameType | None:
    """Where the greenlet that this code runs in was started from; None outside of one."""
    current: Any = None if _getcurrent is None else _getcurrent()
    outer = None if current is None else current.parent
    frame: FrameType | None = None if outer is None else outer.gr_frame
    return frame


def await_in_greenlet(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` from sync code that an async engine is running."""
    answer: T = _await(awaitable)
    return answer


def is_autocommit(connection: Connection) -> bool:
    """True when each statement on `connection` commits by itself, whether SQLAlchemy has been told so or not."""
    return is_told_to_autocommit(connection) or _driver_commits(connection)


def is_told_to_autocommit(connection: Connection) -> bool:
    """True when SQLAlchemy knows that each statement commits by itself."""
    probe = getattr(connection, "_is_autocommit_isolation", None)
    if probe is not None:
        return bool(probe())
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


def _driver_commits(connection: Connection) -> bool:
    """Whether `connect_args` have told the driver alone: `autocommit=True`, or `isolation_level=None` in SQLite."""
    if connection.dialect.name == "sqlite":
        raw = connection.connection.driver_connection
        by_itself = getattr(raw, "isolation_level", "") is None or getattr(raw, "autocommit", None) is True
        # a BEGIN of one's own, as SQLAlchemy's manual has it, makes a transaction
        return by_itself and not getattr(raw, "in_transaction", False)
    adapter = connection.connection.dbapi_connection
    if connection.dialect.name == "postgresql":
        return getattr(adapter, "autocommit", False) is True
    asked = getattr(adapter, "get_autocommit", None)
    return callable(asked) and asked() is True


def engine_isolation(dialect: Dialect) -> str | None:
    """The isolation level that `create_engine(isolation_level=…)` asked for, if it did."""
    return getattr(dialect, "_on_connect_isolation_level", None)


def variants_of(kind: TypeEngine[Any]) -> Mapping[str, TypeEngine[Any]]:
    """What `with_variant` has put in the place of the type, by the names of dialects."""
    found: Mapping[str, TypeEngine[Any]] = getattr(kind, "_variant_mapping", {})
    return found


def mapped_classes() -> list[type]:
    """Every class that a declarative base or registry of this process has mapped."""
    registries = getattr(sys.modules[Mapper.__module__], "_all_registries", None)
    if registries is None:
        return []
    # `registry.mappers` fails where one of its classes is mapped no more (`dispose`, `clear_mappers`)
    managers = [manager for registry in registries() for manager in list(getattr(registry, "_managers", ()))]
    return [manager.mapper.class_ for manager in managers if manager.is_mapped]


@contextmanager
def noticing_held(session: Session, held: Callable[[], None]) -> Iterator[None]:
    """Call `held` when the session hands out an entity, without SQL or over a row, that it has now."""
    identity_map = session.identity_map
    if not identity_map:
        yield
        return
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
    held, add, session_id = session.identity_map.get, session.identity_map._add_unpresent, session.hash_key
    found, fresh = [], []
    for row in rows:
        {values}, = row
        key = (identity_class, ({identity},), None)
        entity = held(key)
        if entity is None:
            entity = new(cls)
            state = make_state(entity, manager)
            put_state(entity, state)
            state.key = key
            state.session_id = session_id
            add(state, key)
            have = entity.__dict__
            {sets}
            fresh.append(entity)
        else:
            complete(entity, row)
        found.append(entity)
    return found, fresh
"""

Place = Callable[[Iterable[Sequence[Any]], Session, Callable[[Any, Sequence[Any]], None]], tuple[list[Any], list[Any]]]


def placer(mapper: Mapper[Any], names: Sequence[str], places: Sequence[int], unloaded: Sequence[str]) -> Place:
    """What turns rows of `names` into a session's entities, as a load would: all of them, and those new in it.

    `places` are those of the primary key, `unloaded` columns that are to come when they are asked for. Of an entity
    that the session holds, the function that it is given makes what it likes. Compiled for the class: 1.6 times as
    fast as calls of `new_instance` and `dict.update`.
    """
    manager: Any = mapper.class_manager
    identity_class = mapper.identity_key_from_primary_key(tuple(places))[0]
    parts = [getattr(manager, "_state_constructor", None), getattr(manager, "_state_setter", None)]
    if None in parts or not hasattr(IdentityMap, "_add_unpresent"):
        return partial(_place_detached, mapper, names, places, identity_class)
    sets = [f"have[{name!r}] = v{number}" for number, name in enumerate(names)]
    if unloaded:
        sets.append("state.expired_attributes.update(unloaded)")
    source = _PLACE.format(
        values=", ".join(f"v{number}" for number in range(len(names))),
        identity=", ".join(f"v{place}" for place in places) + ",",
        sets="\n            ".join(sets),
    ).replace(",,", ",")
    scope: dict[str, Any] = {
        "identity_class": identity_class,
        "cls": mapper.class_,
        "new": mapper.class_.__new__,
        "manager": manager,
        "make_state": parts[0],
        "put_state": parts[1],
        "unloaded": tuple(unloaded),
    }
    exec(compile(source, f"<entities of {mapper.class_.__qualname__}>", "exec"), scope)  # noqa: S102 - numbers, and names as literals
    made: Place = scope["place"]
    return made


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
    return found, fresh


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


def run_number() -> int:
    """A number between those that the runs of queries before and after it get; 0 if there are none."""
    return 0 if _new_runid is None else int(_new_runid())


def loading_of(orm: ORMExecuteState) -> tuple[Any, Any, bool, frozenset[str] | None, Any]:
    """Of a SELECT: whose attribute is touched, who is refreshed, if by the user's wish, which columns, which path."""
    loads: Any = orm.execution_options.get("_sa_orm_load_options")
    compiles: Any = getattr(orm.statement, "_compile_options", None)
    try:
        names, path = compiles._only_load_props, compiles._current_path  # noqa: SLF001
    except AttributeError:
        names = path = None
    try:
        return loads._lazy_loaded_from, loads._refresh_state, loads._is_user_refresh, names, path  # noqa: SLF001
    except AttributeError:
        return None, None, False, names, path


def loads_subclass(orm: ORMExecuteState) -> bool:
    """Whether a SELECT is that of `selectin_polymorphic`, for what only some of another query's objects have.

    It is sent as if the application had asked; its one parameter has a name that SQLAlchemy made.
    """
    parameters = orm.parameters
    return parameters is not None and "primary_keys" in parameters and len(parameters) == 1


def unseen() -> list[str]:
    """What the detector cannot see with this SQLAlchemy, in words; empty with those that it is tested with."""
    loads = getattr(QueryContext, "default_load_options", None)
    lacking = {
        "which query loaded an object (no loading._new_runid)": _new_runid is None,
        "how many rows there were (no cursor._DEFAULT_FETCH)": _default_fetch is None,
        "lazy loads (no load_options._lazy_loaded_from)": not hasattr(loads, "_lazy_loaded_from"),
        "columns loaded later (no load_options._refresh_state)": not hasattr(loads, "_refresh_state"),
    }
    return [what for what, is_lacking in lacking.items() if is_lacking]


class Counted(Protocol):
    """What `count_rows` fills: the number of rows, the first of them, and as many as it still `keeps`."""

    rows: int | None
    first: Any
    keeps: int
    kept: list[Any] | None


class _Counting(CursorFetchStrategy):
    """Fetches as ever, and counts."""

    __slots__ = ("counted",)

    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        row = super().fetchone(result, dbapi_cursor, hard_close)
        if row is not None:
            self._count((row,))
        return row

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        return self._count(super().fetchmany(result, dbapi_cursor, size))

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        return self._count(super().fetchall(result, dbapi_cursor))

    def yield_per(self, result: Any, dbapi_cursor: Any, num: int) -> None:
        self.counted.rows = None
        super().yield_per(result, dbapi_cursor, num)

    def _count(self, rows: Any) -> Any:
        counted = self.counted
        if rows and counted.rows is not None:
            if not counted.rows:
                counted.first = rows[0]
            counted.rows += len(rows)
            if counted.keeps:
                counted.kept = [*(counted.kept or ()), *rows[: counted.keeps]]
                counted.keeps -= min(len(rows), counted.keeps)
        return rows


def count_rows(context: Any, counted: Counted) -> None:
    """Count the rows that are fetched of a statement that has just run; `rows` is None where that cannot be."""
    is_default = _default_fetch is not None and getattr(context, "cursor_fetch_strategy", None) is _default_fetch
    if not is_default or getattr(context, "_is_server_side", False):
        counted.rows = None
    else:
        context.cursor_fetch_strategy = _Counting(counted)


def joined_paths(compiled: Any) -> tuple[tuple[Any, ...], ...]:
    """The relationships, from the root on, that a compiled query fills by joined eager loading of its own choice."""
    attributes = getattr(getattr(compiled, "compile_state", None), "attributes", None)
    if not attributes:
        return ()
    keys = [key for key in attributes if isinstance(key, tuple) and len(key) == 2 and key[0] == "eager_row_processor"]
    return tuple(path for _, path in keys if isinstance(path, tuple) and path)


class Parts(NamedTuple):
    """The clauses of a SELECT or a compound of them that SQLAlchemy has no public name for."""

    order_by: tuple[Any, ...]
    group_by: tuple[Any, ...]
    is_distinct: bool
    distinct_on: tuple[Any, ...]
    is_limited: bool
    selects: tuple[Any, ...]
    """Of a compound, what it is of; empty for a SELECT."""
    compound: str
    """Of a compound, `UNION ALL` or the like; empty for a SELECT."""


def parts_of(statement: Any) -> Parts:
    """What a statement is made of, where it is not for SQLAlchemy's own eyes only."""
    keyword = getattr(statement, "keyword", None)
    before_columns = getattr(statement, "_pre_columns_clause", None)  # postgresql.distinct_on()
    return Parts(
        tuple(statement._order_by_clauses),  # noqa: SLF001
        tuple(statement._group_by_clauses),  # noqa: SLF001
        bool(getattr(statement, "_distinct", False)),
        tuple(getattr(statement, "_distinct_on", ())) or (() if before_columns is None else (before_columns,)),
        any(getattr(statement, name, None) is not None for name in _LIMITS),
        tuple(getattr(statement, "selects", ())),
        "" if keyword is None else str(keyword.value),
    )


_LIMITS = ("_limit_clause", "_offset_clause", "_fetch_clause")


def reference_in(clause: Any) -> Any:
    """What a label in ORDER BY stands for: its expression, or its name as a string; any other clause as it is."""
    return clause.element if type(clause).__name__ in ("_label_reference", "_textual_label_reference") else clause


def options_of(statement: Any) -> tuple[Any, ...]:
    """The loader options of a statement."""
    return tuple(getattr(statement, "_with_options", ()))


def reads_own_joins(statement: Any) -> bool:
    """Whether an option says that related objects are in the statement's own joins: `contains_eager`."""
    elements = (each for option in options_of(statement) for each in getattr(option, "context", ()))
    return any("eager_from_alias" in (getattr(each, "local_opts", None) or {}) for each in elements)


def locks_rows(statement: Any) -> bool:
    """Whether it says FOR UPDATE or the like, also where the dialect leaves that out."""
    return getattr(statement, "_for_update_arg", None) is not None


def strategies_of(statement: Any) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The loader options of a statement: for each path, mapper and attribute in turn, what they say of it."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for option in getattr(statement, "_with_options", ()):
        for element in getattr(option, "context", ()):
            path, strategy = getattr(element, "path", None), getattr(element, "strategy", None)
            if path is not None and strategy:
                parts = path.path[: len(path.path) // 2 * 2]
                found[tuple(parts)] = dict(strategy)
    return found


def mapper_annotated(column: Any) -> Mapper[Any] | None:
    """The class by whose attribute a column was written into a statement: `Bin.id`, not `bins.c.id`."""
    found: Mapper[Any] | None = getattr(getattr(column, "_annotations", {}).get("parententity"), "mapper", None)
    return found


def joins_of(select: Select[Any]) -> tuple[tuple[Any, Any, Any, dict[str, Any]], ...]:
    """What `.join()` was told, each time: the target, ON, the left side if it was named, and how."""
    return tuple(getattr(select, "_setup_joins", ()))


def selects_from(select: Select[Any]) -> tuple[Any, ...]:
    """What `.select_from()` was told."""
    return tuple(getattr(select, "_from_obj", ()))


def roots_of(statement: Any) -> list[Any]:
    """The mappers and inspected aliases whose objects a statement gives, not those of which it gives columns."""
    columns = getattr(statement, "_raw_columns", None)
    if columns is None:
        described = getattr(statement, "column_descriptions", ())
        found = [inspect(each["entity"]) for each in described if each["expr"] is each.get("entity") is not None]
    else:
        entities = [each for each in columns if isinstance(each, FromClause)]
        found = [getattr(each, "_annotations", {}).get("parententity") for each in entities]
    return list(dict.fromkeys(each for each in found if each is not None))


def wildcards_of(statement: Any) -> dict[str, Any]:
    """What options such as `lazyload("*")`, which name no class, say of all `relationship`s and all `column`s."""
    found: dict[str, Any] = {}
    for option in getattr(statement, "_with_options", ()):
        path, strategy = getattr(option, "path", None), getattr(option, "strategy", None)
        if strategy and isinstance(path, tuple) and len(path) == 1 and isinstance(path[0], str):
            found[path[0].partition(":")[0]] = dict(strategy)
    return found


def columns_of(compiled: Any) -> list[tuple[str, Any] | None]:
    """For each column of a result, the name of the table or alias it is from, and the column."""
    found: list[tuple[str, Any] | None] = []
    for entry in getattr(compiled, "_result_columns", ()):
        columns = [each for each in entry[2] if isinstance(each, Column)]
        found.append((str(columns[0].table.name), columns[0]) if columns and columns[0].table is not None else None)
    return found


def root_engine(engine: Engine) -> Engine:
    """The engine of `create_engine()` from which `execution_options` made this one; most often itself.

    Events of the root fire for all that were made of it, and not the other way round.
    """
    root: Engine = engine
    while (parent := getattr(root, "_proxied", None)) is not None:
        root = parent
    return root


def structure_of(statement: Executable) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """What tells a statement from others of another structure, and its values; None if that cannot be known."""
    make: Any = getattr(statement, "_generate_cache_key", None)
    found = None if make is None else make()
    if found is None:
        return None
    return found.key, tuple(bind.effective_value for bind in found.bindparams)


def has_listeners_left(state: ORMExecuteState) -> bool:
    """Whether others who listen to `do_orm_execute` are still to be told of this one, and may change it."""
    left: Any = getattr(state, "_remaining_events", None)
    return left is None or bool(left())


def listeners_left(state: ORMExecuteState) -> list[Any]:
    """Who is still to be told of this one."""
    left: Any = getattr(state, "_remaining_events", None)
    return [None] if left is None else list(left())


def is_legacy_query(state: ORMExecuteState) -> bool:
    """Whether a `Query` executes it, which looks into its result for more than rows."""
    return bool(getattr(state.load_options, "_legacy_uniquing", True))


def wants_unique(result: Result[Any]) -> bool:
    """Whether it refuses to be read before `unique()`, because joined eager loads repeat its entities."""
    return getattr(result, "_unique_filter_state", None) is not None


def result_of(
    keys: Sequence[str], expressions: Sequence[Any] | None, by_identity: Sequence[bool], rows: Sequence[Any]
) -> Result[Any]:
    """Rows as a result, whose columns are found by name and by expression."""
    extra = None if expressions is None else [(each,) for each in expressions]
    if any(by_identity):
        filters = [id if each else None for each in by_identity]
        with suppress(TypeError):
            metadata = SimpleResultMetaData(keys, extra, _create_unique_filters=lambda given: filters)
            return IteratorResult(metadata, iter(rows))
    return IteratorResult(SimpleResultMetaData(keys, extra), iter(rows))


def require_unique(result: Result[Any]) -> None:
    """Let it refuse to be read before `unique()`, as what it stands for does."""

    def refuse(row: Any) -> None:
        raise InvalidRequestError(
            "The unique() method must be invoked on this Result, as it contains results that include joined eager "
            "loads against collections"
        )

    if hasattr(result, "_unique_filter_state"):
        result._unique_filter_state = (set(), refuse)  # noqa: SLF001


# ---- loads: who was loaded together, and rows that become entities later


def run_of(state: InstanceState[Any]) -> float | None:
    """The number of the load that made an object; larger for later ones. None for what no query has loaded.

    An object from a batch has half a number more than the statement that read its row, which is that of no load.
    """
    return getattr(state, "runid", None)


def regroup(state: InstanceState[Any], run: float | None) -> None:
    """Let `state` belong to the objects of another load: its own was for it alone."""
    state.runid = run  # type: ignore[assignment]


def new_run() -> int | None:
    """A number larger than those of all loads so far, and smaller than those to come."""
    make: Any = getattr(loading, "_new_runid", None)
    return None if make is None else make()


def is_clean(session: Session) -> bool:
    """Whether there is nothing to flush."""
    try:
        return session._is_clean()  # noqa: SLF001
    except AttributeError:
        return not (session.dirty or session.new or session.deleted)


def newest_first(session: Session) -> Iterable[InstanceState[Any]]:
    """The states of the identity map, those that came last first; RuntimeError if one goes meanwhile."""
    held: dict[Any, InstanceState[Any]] | None = getattr(session.identity_map, "_dict", None)
    return reversed(session.identity_map.all_states() if held is None else held.values())


def refresh_of(execution: ORMExecuteState) -> tuple[InstanceState[Any], frozenset[str]] | None:
    """Whose columns a column load is for, and their names; None where somebody has called `refresh()`."""
    state = getattr(execution.load_options, "_refresh_state", None)
    names = getattr(getattr(execution.statement, "_compile_options", None), "_only_load_props", None)
    if state is None or not names or getattr(execution.load_options, "_is_user_refresh", True):
        return None
    return state, frozenset(names)


def identity_binds(mapper: Mapper[Any]) -> tuple[str, ...] | None:
    """The names of the binds by which a row of `mapper` is fetched, in the order of its primary key."""
    clause: Any = getattr(mapper, "_get_clause", None)
    return None if clause is None else tuple(clause[1][column].key for column in mapper.primary_key)


def lazy_binds(relation: RelationshipProperty[Any]) -> tuple[dict[str, Any], bool] | None:
    """The binds of a relation's lazy SELECT that differ by parent, each with the parent's column whose value it is.

    And whether it fetches by primary key, so that it sends nothing for what the session has. None if not known.
    """
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        strategy: Any = relation._get_strategy((("lazy", "select"),))  # noqa: SLF001
        if strategy.use_get:
            names = identity_binds(relation.mapper)
            if names is None:
                return None
            equated = strategy._equated_columns  # noqa: SLF001
            return {name: equated[key] for name, key in zip(names, relation.mapper.primary_key, strict=True)}, True
        _, binds = strategy._simple_lazy_clause  # noqa: SLF001
        return {name: column for name, column, _ in binds if column is not None}, False
    return None


def with_where(statement: Select[Any], terms: Sequence[Any]) -> Select[Any]:
    """`statement` with other conditions in place of its own."""
    if not hasattr(statement, "_where_criteria"):
        raise LookupError("_where_criteria")
    changed = statement.where(*terms[:1])
    changed._where_criteria = tuple(terms)  # noqa: SLF001
    return changed


class Replay:
    """The rows of one statement, read at once, that become entities when they are asked for.

    Owns the result of SQLAlchemy, whose rows were taken out; `rows` are they. `is_flat` when a row is one entity and
    nothing else is loaded with it by a join: then all of them go through one context, which was prepared once. Else,
    and for a refresh, each goes through one of its own, as it would for a statement of its own.
    """

    __slots__ = ("_chunks", "_cursor", "_given", "_run", "_statement", "is_busy", "is_flat", "rows", "run")

    def __init__(self, result: ChunkedIteratorResult[Any], statement: Executable) -> None:
        cursor: Any = result.raw
        self._statement = statement
        if not isinstance(cursor, CursorResult):
            raise LookupError("raw")
        self._cursor: Any = cursor
        context: Any = result.context
        self._run = context.runid
        self.run = float(self._run) + 0.5
        """The run of entities that come of it; see `run_of`."""
        self._chunks: Any = result.chunks(1)
        read_all: Any = getattr(cursor, "_raw_all_tuples", cursor.fetchall)
        self.rows: list[Any] = list(read_all())
        given: list[list[Any]] = [[]]  # a list, so that the cursor need not know who reads it
        cursor.fetchmany = lambda size=None: given[0]  # type: ignore[method-assign]
        self._given = given
        self.is_flat = not _compiled_state(cursor).eager_joins
        self.is_busy = False

    @property
    def connection(self) -> Connection:
        """That which sent it."""
        connection: Connection = self._cursor.connection
        return connection

    def taking(self, columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]] | None:
        """What takes the values of these columns, or labels, out of a row; None if it has not got all of them."""
        make: Any = getattr(self._cursor, "_tuple_getter", self._by_mapping)
        try:
            found: Callable[[Any], tuple[Any, ...]] = make(columns)
        except (KeyError, InvalidRequestError):
            return None
        return found

    def _by_mapping(self, columns: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
        keys = list(self._cursor.keys())
        places = [keys.index(each if isinstance(each, str) else each.key) for each in columns]
        return lambda row: tuple(row[place] for place in places)

    def entities(self, rows: list[Any], execution: ORMExecuteState | None) -> list[Any]:
        """What `rows` are in the session now, as `execution` would have made them of it; each once."""
        if not rows:
            return []
        last: Any = self._run
        self.is_busy = True
        try:
            self._given[0] = rows
            if execution is None and self.is_flat:
                chunk = next(self._chunks)
            else:
                assert execution is not None
                result = self._prepare(execution)
                last = result.context.runid
                chunks: Any = result.chunks(1)
                chunk = next(chunks)
                chunks.close()
        finally:
            self.is_busy = False
            self._given[0] = []
        made = [row[0] for row in chunk] if isinstance(chunk[0], tuple) else list(chunk)
        chunk.clear()  # the generator holds it, and with it the entities
        if len(made) > 1:
            made = list(dict(zip(map(id, made), made, strict=True)).values())
        run: Any = self.run
        for entity in made:
            # with the number of its context, the next row of the same entity would be one more of the same load
            if entity is not None and (state := instance_state(entity)).runid == last:
                state.runid = run
        return made

    def _prepare(self, execution: ORMExecuteState) -> Any:
        return type(_compiled_state(self._cursor)).orm_setup_cursor_result(
            execution.session,
            self._statement,
            execution.parameters or {},
            execution.execution_options,
            dict(execution.bind_arguments),
            self._cursor,
        )


def _compiled_state(cursor: Any) -> Any:
    return cursor.context.compiled.compile_state


def put_before(state: InstanceState[Any], name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(callable)` in place of what loads `name` lazily for objects of this class."""
    impl: Any = state.manager[name].impl
    original = getattr(impl, "callable_", None)
    if original is not None:
        impl.callable_ = make(original)


def take_away(kind: type[Any]) -> None:
    """Undo `put_before` wherever a `kind` was put, whose `original` comes back."""
    for cls in mapped_classes():
        for name in manager_of_class(cls):
            impl: Any = getattr(manager_of_class(cls)[name], "impl", None)
            if isinstance(getattr(impl, "callable_", None), kind):
                impl.callable_ = impl.callable_.original


def listeners_of(session: Session) -> list[Any]:
    """Who listens to `do_orm_execute`."""
    return list(getattr(session.dispatch, "do_orm_execute", (None,)))


def live_sessions() -> list[Session]:
    """The sessions that there are in this process."""
    held: Any = getattr(sys.modules[Session.__module__], "_sessions", None)
    with suppress(RuntimeError):  # another thread has made one
        return [] if held is None else list(held.values())
    return []


def part_listeners(session: Session) -> bool:
    """Let those who go through its listeners to `do_orm_execute` go on through them, though one is added now."""
    collection: Any = getattr(session.dispatch, "do_orm_execute", None)
    listeners = getattr(collection, "listeners", None)
    if listeners:
        if not isinstance(listeners, deque):
            return False
        collection.listeners = deque(listeners)
    return True


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
