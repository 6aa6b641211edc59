"""What a session's open transaction has seen and done, as far as a cached read must know.

Nothing here does I/O: connections are remembered when the session begins on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import ref

from sqlalchemy import Connection, Dialect, Engine, Table, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import LoaderCriteriaOption, Mapper, Session, scoped_session

from perfkit.sqla.changes import Changes, changes_in, is_isolated_by_hand, peek
from perfkit.sqla.private import engine_isolation, mapped_classes, root_engine

Carrier = Session | Connection
"""What runs SQL for a function: all that `carrier_in` can find."""

CARRIED = (Session, AsyncSession, scoped_session, async_scoped_session, Connection, AsyncConnection)
"""Types of arguments that are carried and never part of a key."""

_ADDRESS = frozenset({"host", "port", "dbname", "database", "service", "unix_socket"})
_CONNECTIONS, _BY_HAND, _SESSION = "perfkit.connections", "perfkit.by_hand", "perfkit.session"
_SNAPSHOTS = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})


def carrier_in(value: object) -> Carrier | None:
    """The sync session or connection behind `value`, if it is one of `CARRIED`."""
    if isinstance(value, scoped_session | async_scoped_session):
        value = value()
    if isinstance(value, AsyncSession):
        return value.sync_session
    if isinstance(value, AsyncConnection):
        return value.sync_connection
    return value if isinstance(value, Session | Connection) else None


def engine_of(engine: Engine | AsyncEngine) -> Engine:
    """The sync engine that fires the events: also those of the engines that `execution_options` made of it."""
    return root_engine(engine.sync_engine if isinstance(engine, AsyncEngine) else engine)


class Place(NamedTuple):
    """Where a session would read a table: a database, under a map of schema names if there is one."""

    dialect: Dialect
    schemas: str


def places_of(carrier: Carrier, tables: Sequence[Table]) -> list[Place] | None:
    """Where `carrier` reads `tables`; None if it cannot say before it does.

    Engines made by `execution_options` share the dialect of their parent.
    """
    if isinstance(carrier, Connection):
        return [_place(carrier)]
    binds = _binds_of(carrier, tables)
    if binds is None:
        return None
    open_on = {connection.dialect: connection for connection in connections_of(carrier)}
    return [_place(open_on.get(bind.dialect, bind)) for bind in binds]


def _binds_of(session: Session, tables: Sequence[Table]) -> list[Engine | Connection] | None:
    if _chooses(session):
        return _chosen(session, tables)
    if not session.binds:
        return None if session.bind is None else [session.bind]
    try:
        if tables:
            return [session.get_bind(clause=table) for table in tables]
        binds: list[Engine | Connection | None] = [*session.binds.values(), session.bind]
        return list(dict.fromkeys(bind for bind in binds if bind is not None)) or [session.get_bind()]
    except SQLAlchemyError:
        return None


def _chooses(carrier: Carrier) -> bool:
    """Whether it is a session with a `get_bind` of its own."""
    return isinstance(carrier, Session) and type(carrier).get_bind is not Session.get_bind


def _chosen(session: Session, tables: Collection[Table]) -> list[Engine | Connection] | None:
    """What its own `get_bind` says of `tables`, of all that are mapped if there are none, and of nothing in particular.

    It is called as SQLAlchemy calls it. Where it fails, a statement would, too.
    """
    mappers: list[Mapper[Any]] = [cls.__mapper__ for cls in mapped_classes()]  # type: ignore[attr-defined]
    asked: list[dict[str, Any]] = [{}, *({"clause": table} for table in tables)]
    asked += [
        {"mapper": each, "clause": each.local_table}
        for each in mappers
        if not tables or not set(each.tables).isdisjoint(tables)
    ]
    found: dict[Engine | Connection, None] = {}
    for arguments in asked:
        try:
            found[session.get_bind(**arguments)] = None
        except Exception:  # noqa: BLE001, S112 - somebody's own; `suppress` would be three calls at each class
            continue
    return list(found) or None


class Astray:
    """Notices what a session with a `get_bind` of its own reads elsewhere than it said before. A `Watcher`."""

    def __init__(self, carriers: Sequence[Carrier], tables: Sequence[Table], strayed: Callable[[], None]) -> None:
        self._said = [(each, places_of(each, tables) or []) for each in carriers if _chooses(each)]
        self._strayed = strayed

    def __bool__(self) -> bool:
        return bool(self._said)

    def before_statement(self, connection: Connection, context: Any, sql: str) -> None:
        for session, places in self._said:
            if connection in connections_of(session) and _place(connection) not in places:
                self._strayed()


def _place(bind: Engine | Connection) -> Place:
    schemas = bind.get_execution_options().get("schema_translate_map")
    return Place(bind.dialect, "" if not schemas else repr(sorted(schemas.items(), key=repr)))


def database_name(engine: Engine) -> str:
    """What tells the database of `engine` from others, in every process: its address, without driver and user.

    Something unique in this process where the URL does not say: SQLite in memory, an engine with a `creator`.
    """
    url = engine.url
    if url.get_backend_name() == "sqlite":
        path = url.database
        return f"sqlite {Path(path).absolute()}" if path and ":memory:" not in path else f"sqlite {uuid4()}"
    address = [url.host, url.port, url.database, sorted((key, url.query[key]) for key in url.query if key in _ADDRESS)]
    return f"{url.get_backend_name()} {address}" if any(address) else f"{url.get_backend_name()} {uuid4()}"


def engine_behind(carrier: Carrier) -> Engine | None:
    """The engine that it reads from by default; None if it cannot say."""
    try:
        return (carrier if isinstance(carrier, Connection) else carrier.get_bind()).engine
    except Exception:  # noqa: BLE001 - one with a get_bind of its own, which may raise anything
        return None


def connections_of(carrier: Carrier) -> list[Connection]:
    """The connections on which it has a transaction open, or on which somebody opened one around it."""
    if isinstance(carrier, Connection):
        return [carrier] if carrier.in_transaction() else []
    known: list[Connection] = carrier.info.get(_CONNECTIONS, [])
    begun = [connection for connection in known if not connection.closed]
    return begun + [outer for outer in _outer_connections(carrier) if outer not in begun and outer.in_transaction()]


def is_idle(carrier: Carrier) -> bool:
    """Whether no transaction is open, so that nothing can be written or pending.

    A session with something to flush has begun: add() does it, and so does a changed attribute
    (tests/facts/test_sqlalchemy.py).
    """
    if carrier.in_transaction():
        return False
    return isinstance(carrier, Connection) or not any(outer.in_transaction() for outer in _outer_connections(carrier))


def _outer_connections(session: Session) -> list[Connection]:
    """The connections that it was given in place of an engine, as tests do that roll everything back."""
    binds = session.binds.values() if session.binds else (session.bind,)
    return [bind for bind in binds if isinstance(bind, Connection)]


def changes_of(carrier: Carrier) -> Iterator[Changes]:
    """What its transaction has written so far, and what was announced by hand."""
    for connection in connections_of(carrier):
        if changes := peek(connection.info):
            yield changes
    if isinstance(carrier, Session) and (named := carrier.info.get(_BY_HAND)):
        changes = Changes()
        changes.by_hand = named
        yield changes


def has_pending(carrier: Carrier) -> bool:
    """Whether a flush would write."""
    return isinstance(carrier, Session) and bool(carrier.new or carrier.deleted or carrier.dirty)


def reads_from_snapshot(carrier: Carrier) -> bool:
    """Whether its open transaction shows the past: REPEATABLE READ, SERIALIZABLE, or BEGIN in SQLite.

    SQLite calls its only level SERIALIZABLE, but its drivers begin no transaction before the first write
    unless they are told to; so the driver is asked.
    """
    return any(is_snapshot(connection) for connection in connections_of(carrier))


def holds_entities_of(carrier: Carrier, tables: Collection[str]) -> bool:
    """Whether its identity map has entities of `tables`: a query would return them as they were loaded."""
    if not isinstance(carrier, Session):
        return False
    return any(
        isinstance(table, Table) and table.name in tables
        for mapper in {state.mapper for state in carrier.identity_map.all_states()}
        for table in mapper.tables
    )


def has_criteria(carrier: Carrier) -> bool:
    """Whether it holds entities that `with_loader_criteria` goes with, so that what they load later obeys it, too."""
    if not isinstance(carrier, Session):
        return False
    # one for all that a statement has loaded
    found = {id(state.load_options): state.load_options for state in carrier.identity_map.all_states()}
    return any(isinstance(option, LoaderCriteriaOption) for options in found.values() for option in options)


class Strangers:
    """Notices sessions that a load uses without having been passed them.

    If one holds entities by then, they would be returned as they were loaded, whenever that was: `held` is called with
    the session, before its first statement. A `sqla.watching.Watcher`.
    """

    def __init__(self, carriers: Sequence[Carrier], held: Callable[[Session], None]) -> None:
        self._met: list[Carrier] = list(carriers)
        self._passed = len(self._met)
        self._held = held

    def go_on(self) -> bool:
        """After the load: whether one of them is somebody else's, for its transaction goes on."""
        return any(each.in_transaction() for each in self._met[self._passed :])

    def before_statement(self, connection: Connection, context: Any, sql: str) -> None:
        session = _session_on(connection)
        if session is None or any(session is each for each in self._met):
            return
        self._met.append(session)
        if session.identity_map:
            self._held(session)


def _session_on(connection: Connection) -> Session | None:
    """The session that has begun on the connection, if one has."""
    reference = connection.info.get(_SESSION)
    session: Session | None = None if reference is None else reference()
    known = () if session is None else session.info.get(_CONNECTIONS, ())
    return session if any(each is connection for each in known) else None


def announce_by_hand(carrier: Carrier, names: Collection[str]) -> None:
    """Add `names` to what the carrier's transaction has changed; they go where it goes."""
    connections = connections_of(carrier)
    for connection in connections:
        changes_in(connection.info).by_hand.update(names)
    if not connections:
        if isinstance(carrier, Connection):
            changes = changes_in(carrier.info)
            changes.by_hand.update(names)
            changes.early = True
        else:
            carrier.info.setdefault(_BY_HAND, set()).update(names)


def watch_sessions() -> None:
    """Remember on which connections sessions begin. Putting it on twice is the same as once."""
    for name, listener in _LISTENERS:
        if not event.contains(Session, name, listener):
            event.listen(Session, name, listener)


def _after_commit(session: Session) -> None:
    if not session.in_nested_transaction() and session.info.get(_BY_HAND):
        warnings.warn(
            f"touch({', '.join(sorted(session.info[_BY_HAND]))}) is lost, because its transaction ran no SQL: "
            f"use bump() for what changed elsewhere.",
            RuntimeWarning,
            stacklevel=2,
        )


def _after_begin(session: Session, transaction: Any, connection: Connection) -> None:
    known: list[Connection] = session.info.setdefault(_CONNECTIONS, [])
    if connection not in known:
        known.append(connection)
    connection.info[_SESSION] = ref(session)
    if named := session.info.pop(_BY_HAND, None):
        changes_in(connection.info).by_hand.update(named)


def _after_transaction_end(session: Session, transaction: Any) -> None:
    if transaction.parent is None:
        session.info.pop(_CONNECTIONS, None)
        session.info.pop(_BY_HAND, None)


_LISTENERS: list[tuple[str, Callable[..., None]]] = [
    ("after_begin", _after_begin),
    ("after_commit", _after_commit),
    ("after_transaction_end", _after_transaction_end),
]


def reads_uncommitted(carrier: Carrier) -> bool:
    """Whether its open transaction sees what others have not committed. In PostgreSQL none does, whatever it says."""
    return any(
        connection.dialect.name != "postgresql" and _level(connection) == "READ UNCOMMITTED"
        for connection in connections_of(carrier)
    )


def _level(connection: Connection) -> str:
    level = connection.get_execution_options().get("isolation_level")
    level = level or engine_isolation(connection.dialect) or connection.default_isolation_level or ""
    return str(level).replace("_", " ").upper()


def is_snapshot(connection: Connection) -> bool:
    """The same of one connection whose transaction is open."""
    if is_isolated_by_hand(connection.info):
        return True
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.driver_connection, "in_transaction", True))
    return _level(connection) in _SNAPSHOTS
