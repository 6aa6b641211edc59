"""A lazy load of one object, asked for all objects that were loaded with it.

    SELECT … FROM customers WHERE customers.id = :pk_1                what SQLAlchemy is about to send
    SELECT … FROM customers WHERE customers.id IN (…)                 what is sent in its place

The second is made of the first, so what else it says (options, criteria, order, the path of loader options) is as it
was. Whose rows are which is told by the columns that are compared; those that are no part of the entity, such as of a
table in between, are selected beside it as `perfkit_key_0`. Its rows are read at once and stay rows. They become
entities when the attribute of *their* object is asked for:
until then nothing of them is in the session, so whoever loads the same entity in another way finds what he would
have found, and everything that happens when an entity is loaded happens when it would have happened.

The rows for an object are those whose key columns have the values that the object has in memory when it is asked:
the very condition of the lazy load. Where this cannot be said of a statement, it is sent as it is:

    conditions on the parent that are not `column = parent's column`
    keys that are equal for the database and not for Python: another case, trailing blanks, accents
    a column load by a SELECT of its own (joined inheritance)
    objects of shards; objects that are not stored
    sessions with listeners to `do_orm_execute` that come after ours: what they will make of it is not known
"""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakSet

from sqlalchemy import ColumnClause, Connection, Integer, Select, String, bindparam, tuple_
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, RelationshipProperty, Session
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.visitors import iterate

from perfkit.counters import Counters
from perfkit.sqla import private
from perfkit.sqla.statements import conjunction

LABEL = "perfkit_key_"
_WITHOUT_TUPLES = frozenset({"mssql", "oracle"})  # of which the first knows no (a, b) IN (…); oracle's IN ends at 1000
MOST_BINDS = 30_000  # SQLite and asyncpg end at 2**15, psycopg at 2**16
_MOST_KEYS = {"oracle": 1000, "mssql": 2000}

State = InstanceState[Any]
Key = tuple[Any, ...]


class Missing(enum.Enum):
    """What stands for no value, where None is one."""

    MISSING = "missing"


class Columns(NamedTuple):
    """Columns of a class that are loaded together."""

    mapper: Mapper[Any]
    names: frozenset[str]


What = RelationshipProperty[Any] | Columns

_labelled: WeakSet[RelationshipProperty[Any]] = WeakSet()  # whose own columns are not among those of their rows
_unfit: WeakSet[RelationshipProperty[Any]] = WeakSet()  # whose keys Python and the database compare in two ways


@dataclass(slots=True)
class Asked:
    """A lazy load that is about to be sent. `binds` names the parent's column of each bind; None: the primary key."""

    execution: ORMExecuteState
    state: State
    what: What
    binds: Mapping[str, Any]
    by_identity: bool

    @property
    def session(self) -> Session:
        return self.execution.session

    def is_unloaded(self, state: State, have: Mapping[str, Any]) -> bool:
        """Whether `state`, which has these attributes, would load the same if it were asked."""
        what = self.what
        if isinstance(what, Columns):
            return state.mapper is what.mapper and what.names.isdisjoint(have)
        return what.key not in have and (state.mapper is what.parent or state.mapper.isa(what.parent))


def asked(execution: ORMExecuteState, *, beside_others: bool = False) -> Asked | None:
    """The lazy load that `execution` is; None if it is something else, or one to leave alone.

    Where others who listen are still to be told of it, it is left alone but `beside_others`.
    """
    if not beside_others and are_others(private.listeners_left(execution)):
        return None
    state = execution.lazy_loaded_from
    if state is None:
        return _asked_for_columns(execution) if execution.is_column_load else None
    relation = execution.loader_strategy_path[-1] if execution.loader_strategy_path else None
    if not isinstance(relation, RelationshipProperty) or not _is_plain(execution, state) or relation in _unfit:
        return None
    found = private.lazy_binds(relation)
    if found is None or not found[0]:
        return None
    return Asked(execution, state, relation, *found)


def _asked_for_columns(execution: ORMExecuteState) -> Asked | None:
    found = private.refresh_of(execution)
    if found is None or not _is_plain(execution, found[0]):
        return None
    state, names = found
    binds = private.identity_binds(state.mapper)
    if binds is None:
        return None
    return Asked(execution, state, Columns(state.mapper, names), dict.fromkeys(binds), True)


def _is_plain(execution: ORMExecuteState, state: State) -> bool:
    """Not an eager load that uses the lazy loader, not of a shard, and stored."""
    return (
        isinstance(execution.statement, Select)
        and "sa_top_level_orm_context" not in execution.execution_options
        and state.key is not None
        and state.identity_token is None
    )


def dialect_of(execution: ORMExecuteState) -> Any:
    """Of the database that it is sent to."""
    given = {name: value for name, value in execution.bind_arguments.items() if not name.startswith("_")}
    return execution.session.get_bind(**given).dialect


# ---- the values of a parent


def key_names(mapper: Mapper[Any], columns: Sequence[Any]) -> tuple[str, ...] | None:
    """The attributes of `mapper` that hold the parent's columns; None if one is not mapped."""
    names = tuple(_name_of(mapper, column) for column in columns)
    return None if None in names else names  # type: ignore[return-value]


def _name_of(mapper: Mapper[Any], column: Any) -> str | None:
    try:
        return str(mapper.get_property_by_column(column).key)
    except Exception:  # noqa: BLE001 - UnmappedColumnError and, for concrete mappers, KeyError
        return None


# ---- the batch


@dataclass(slots=True, eq=False)
class Batch:
    """Rows for many objects, by key. Owns what SQLAlchemy made of the statement that brought them."""

    what: What
    run: float | None  # of the parents
    columns: tuple[Any, ...]  # of the parent, in the order of the key; Nones stand for its identity
    by_identity: bool
    options: Any
    path: Any
    connection: Connection
    replay: private.Replay
    rows: dict[Key, list[Any]]
    is_async: bool
    structure: Any  # of the statement it was made of; None where nobody but us can change that
    tally: Counters[str] | None = None
    served: set[State] = field(default_factory=set)
    used: set[Key] = field(default_factory=set)
    is_relation: bool = field(init=False)
    is_quick: bool = field(init=False)
    """Whether siblings can be given theirs before there is a statement."""

    def belongs(self, state: State) -> bool:
        """Whether `state` came with those for whom the rows were read, and has not been given them yet.

        One who asks again has forgotten what it had: expired, or reset. It wants to know what is there now.
        """
        return private.run_of(state) == self.run and self.is_for(state)

    def is_for(self, state: State) -> bool:
        """The same of one that came with them."""
        return (
            state not in self.served
            and (state.load_options is self.options or state.load_options == self.options)
            and (state.load_path is self.path or state.load_path == self.path)
        )

    def __post_init__(self) -> None:
        self.is_relation = isinstance(self.what, RelationshipProperty)
        self.is_quick = self.structure is None and self.replay.is_flat and self.is_relation

    def answers(self, question: Asked) -> bool:
        """Whether it was made of the same statement, though others who listen may change it each time."""
        return self.structure is None or self.structure == private.structure_of(question.execution.statement)

    def give(self, state: State, key: Key, execution: ORMExecuteState | None) -> list[Any]:
        """The entities for `state`, made now."""
        found = self.replay.entities(self.rows[key], execution)
        self.served.add(state)
        if key not in self.used:
            self.used.add(key)
            if self.tally is not None:
                self.tally.add("used")
        return found

    def unread(self) -> Iterator[Any]:
        """The rows of entities that may still come of it."""
        for rows in self.rows.values():
            yield from rows


def begin(
    question: Asked,
    key: Key,
    others: Iterable[Key],
    *,
    most: int,
) -> Batch | None:
    """Read the rows for `key` and for `others`, at most `most` in all; None if there is nothing to gain, or no way."""
    execution = question.execution
    listeners = private.listeners_of(question.session)
    dialect = dialect_of(execution)
    if len(key) > 1 and dialect.name in _WITHOUT_TUPLES:
        return None
    keys = _distinct(key, others, min(most, _MOST_KEYS.get(dialect.name, MOST_BINDS // len(key))))
    pinned = _pinned(execution.statement, question.binds)
    if len(keys) < 2 or pinned is None:
        return None
    if not _differ(keys):
        return None
    by_bind, rest = pinned
    wanted = [by_bind[name] for name in question.binds]
    statement: Any = execution.statement
    keys_in_rows: list[Any] | None = _own_keys(question, wanted)
    if keys_in_rows is None:
        labelled = [column.label(f"{LABEL}{number}") for number, column in enumerate(wanted)]
        keys_in_rows = [each.name for each in labelled]
        statement = statement.add_columns(*labelled)
    one = wanted[0] if len(wanted) == 1 else None
    condition = tuple_(*wanted).in_(list(keys)) if one is None else one.in_(_listed(one, [each[0] for each in keys]))
    statement = private.with_where(statement, [condition, *rest])
    result = execution.invoke_statement(statement=statement)
    if not isinstance(result, ChunkedIteratorResult):
        return None  # somebody who listens, too, has answered
    replay = private.Replay(result, statement)
    key_of = replay.taking(keys_in_rows)
    if key_of is None and isinstance(question.what, RelationshipProperty):
        _labelled.add(question.what)
        return None
    rows = _by_key(replay, key_of, keys)
    if rows is None:
        if isinstance(question.what, RelationshipProperty):
            _unfit.add(question.what)
        return None
    state = question.state
    return Batch(
        what=question.what,
        run=private.run_of(state),
        columns=tuple(question.binds.values()),
        by_identity=question.by_identity,
        options=state.load_options,
        path=state.load_path,
        connection=replay.connection,
        replay=replay,
        rows=rows,
        is_async=dialect.is_async,
        structure=private.structure_of(execution.statement) if are_others(listeners) else None,
    )


def _own_keys(question: Asked, wanted: Sequence[Any]) -> list[Any] | None:
    """The columns of the entity itself that `wanted` are, if all of them come with it: then a row is nothing else."""
    what = question.what
    if not isinstance(what, RelationshipProperty) or question.state.load_options or what in _labelled:
        return None
    found = [_own_column(what.mapper, column) for column in wanted]
    return None if any(each is None for each in found) else found


def _own_column(mapper: Mapper[Any], column: Any) -> Any:
    name = _name_of(mapper, column)
    prop = None if name is None else mapper.column_attrs.get(name)
    return None if prop is None or prop.deferred or len(prop.columns) > 1 else prop.columns[0]


def _listed(column: Any, values: list[Any]) -> Any:
    """What a column is compared with: `in_` would look at each value first."""
    return bindparam(None, values, type_=column.type, expanding=True)


def are_others(listeners: Iterable[Any]) -> bool:
    """Whether one of them is not perfkit's own."""
    return any(not str(getattr(each, "__module__", "")).startswith("perfkit.") for each in listeners)


def _distinct(key: Key, others: Iterable[Key], most: int) -> dict[Key, None]:
    keys = {key: None}
    for each in others:
        if len(keys) >= most:
            break
        keys[each] = None
    return keys


def _differ(keys: Iterable[Key]) -> bool:
    """Whether no two of them can be equal for a database that looks at texts with less care than Python."""
    if not any(issubclass(kind, str) for kind in set(map(type, chain.from_iterable(keys)))):
        return True
    texts = [each for each in keys if any(isinstance(part, str) for part in each)]
    return len({tuple(map(_folded, each)) for each in texts}) == len(texts)


def _folded(part: Any) -> Any:
    if not isinstance(part, str):
        return part
    plain = unicodedata.normalize("NFKD", part)
    return "".join(each for each in plain if not unicodedata.combining(each)).casefold().strip()


def _pinned(statement: Any, binds: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]] | None:
    """The column that each bind is compared with, and the other conditions; None if a bind stands elsewhere, too."""
    found: dict[str, Any] = {}
    rest: list[Any] = []
    for term in conjunction(statement.whereclause):
        pair = _equality(term, binds)
        if pair is None:
            rest.append(term)
        elif found.setdefault(*pair) is not pair[1]:
            return None
    loose = (each for term in rest for each in iterate(term) if isinstance(each, BindParameter))
    if found.keys() != binds.keys() or any(each.key in binds for each in loose):
        return None
    return found, rest


def _equality(term: Any, binds: Mapping[str, Any]) -> tuple[str, Any] | None:
    if not isinstance(term, BinaryExpression) or term.operator is not operators.eq:
        return None
    for bind, column in ((term.left, term.right), (term.right, term.left)):
        if isinstance(bind, BindParameter) and bind.key in binds and isinstance(column, ColumnClause):
            return (bind.key, column) if _compare_alike(bind.type, column.type) else None
    return None


def _compare_alike(one: Any, other: Any) -> bool:
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in (type(one), type(other), Integer, String))


def _by_key(
    replay: private.Replay, key_of: Callable[[Any], Key] | None, keys: Iterable[Key]
) -> dict[Key, list[Any]] | None:
    """The rows of each key; None if there is one that nobody has asked for by Python's measure."""
    rows: dict[Key, list[Any]] = {key: [] for key in keys}
    try:
        for row in replay.rows:
            rows[key_of(row)].append(row)  # type: ignore[misc]
    except KeyError:
        return None
    replay.rows = []
    return rows
