"""Dependencies found by themselves, whatever the schema: it is drawn, and so are the queries and what is written.

Two to four tables with keys of one or two columns, foreign keys to keys and to other unique columns with any
referential action, classes that inherit, declared columns that may be NULL. Functions of drawn queries, and some that
depend on very little; transactions of drawn writes through the ORM, in bulk, by Core and by SQL. After every commit
each function is asked through the cache and without it. What a database refuses is rolled back, and asked about all
the same. PERFKIT_TEST_RANDOM_SCHEMAS=1000 tries more of them: half of that on SQLite, a sixth on PostgreSQL, a twelfth
on MariaDB. Everyday it is 12.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    and_,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from perfkit import Cache
from perfkit.errors import NotCached

KINDS, NUMBERS = ("a", "b"), (1, 2, 3)
ACTIONS = (None, "CASCADE", "SET NULL")


@dataclass(frozen=True)
class Link:
    """A foreign key: of which table, to its key or to its unique `code`, and what happens with it."""

    to: int
    by: str
    ondelete: str | None
    onupdate: str | None
    passive: Any
    is_tag: bool


@dataclass(frozen=True)
class Shape:
    """One table. `inherits`: the table before it, "joined" or in the same one."""

    key: str
    links: tuple[Link, ...]
    tags: frozenset[str]
    inherits: str


links = st.builds(
    Link,
    to=st.integers(0, 3),
    by=st.sampled_from(("key", "code")),
    ondelete=st.sampled_from(ACTIONS),
    onupdate=st.sampled_from(ACTIONS),
    passive=st.sampled_from((False, True, "all")),
    is_tag=st.booleans(),
)
shapes = st.builds(
    Shape,
    key=st.sampled_from(("number", "text", "pair")),
    links=st.lists(links, min_size=1, max_size=2).map(tuple),
    tags=st.frozensets(st.sampled_from(("kind", "number", "code"))),
    inherits=st.sampled_from(("", "", "joined", "single")),
)


class Schema:
    """The classes that a list of shapes makes, and what is needed to ask and to change them."""

    def __init__(self, drawn: list[Shape]) -> None:
        class Base(DeclarativeBase):
            pass

        self.Base = Base
        self.classes: list[Any] = []
        self.links: list[tuple[Any, str, Any, str, str]] = []  # class, its column, target, its column, relationship
        for number, shape in enumerate(drawn):
            self.classes.append(self._class(number, shape))
        Base.registry.configure()

    def _class(self, number: int, shape: Shape) -> Any:
        inherits = shape.inherits if number else ""
        if inherits == "single":
            return type(f"C{number}", (self.classes[-1],), {"__mapper_args__": {"polymorphic_identity": f"C{number}"}})
        name = f"t{number}"
        body: dict[str, Any] = {"__tablename__": name, "__mapper_args__": {"polymorphic_identity": f"C{number}"}}
        if inherits:
            parent = self.classes[-1]
            keys = [column.name for column in parent.__mapper__.primary_key]
            for column in parent.__mapper__.primary_key:
                body[column.key] = mapped_column(column.type, primary_key=True, autoincrement=False)
            targets = [f"{parent.__mapper__.local_table.name}.{key}" for key in keys]
            both = ForeignKeyConstraint(keys, targets, ondelete="CASCADE", onupdate="CASCADE")
            body["__table_args__"] = (both,)
            body["extra"] = mapped_column(Integer)
            body["__cache_tags__"] = ("extra",) if "number" in shape.tags else ()
            return type(f"C{number}", (parent,), body)
        kind: Any = String(20) if shape.key == "text" else Integer()
        body["id"] = mapped_column(kind, primary_key=True, autoincrement=False)
        if shape.key == "pair":
            body["part"] = mapped_column(Integer, primary_key=True, autoincrement=False)
        body |= {
            "kind": mapped_column(String(5)),
            "number": mapped_column(Integer),
            "code": mapped_column(Integer, unique=True),
            "what": mapped_column(String(5)),
        }
        body["__mapper_args__"]["polymorphic_on"] = "what"
        tags = [each for each in ("kind", "number", "code") if each in shape.tags]
        later = []
        for at, link in enumerate(shape.links):
            to = min(link.to, number)
            target = None if to == number else self.classes[to]
            # where it inherits: the table at the root, which has all the columns
            table = name if target is None else target.__mapper__.base_mapper.local_table.name
            is_pair = shape.key == "pair" if target is None else len(target.__mapper__.primary_key) > 1
            by = "code" if is_pair or link.by == "code" else "id"
            to_key = kind if target is None else target.__mapper__.primary_key[0].type
            to_kind: Any = Integer() if by == "code" else to_key
            column, way = f"f{at}", f"r{at}"
            key = ForeignKey(f"{table}.{by}", ondelete=link.ondelete, onupdate=link.onupdate, name=f"{name}_{column}")
            body[column] = mapped_column(to_kind, key)
            if link.is_tag:
                tags.append(column)
            later.append((column, way, target, by, link.passive))
        body["__cache_tags__"] = tuple(tags)
        made: Any = type(f"C{number}", (self.Base,), body)
        for column, way, target, by, passive in later:
            root = made if target is None else target.__mapper__.base_mapper.class_
            joined = getattr(made, column) == getattr(root, by)
            other = f"of_{made.__name__}_{way}"
            remote = {"remote_side": getattr(root, by)} if root is made else {}
            setattr(made, way, relationship(root, primaryjoin=joined, back_populates=other, **remote))
            setattr(
                root,
                other,
                relationship(
                    made,
                    primaryjoin=joined,
                    back_populates=way,
                    passive_deletes=passive,
                    **({"remote_side": getattr(made, column)} if root is made else {}),
                ),
            )
            self.links.append((made, column, root, by, way))
        return made

    @cached_property
    def tables(self) -> list[Any]:
        return list(self.Base.metadata.sorted_tables)

    def pick(self, number: int) -> Any:
        return self.classes[number % len(self.classes)]

    def link(self, number: int) -> tuple[Any, str, Any, str, str] | None:
        return self.links[number % len(self.links)] if self.links else None


def key_of(cls: Any, number: int) -> tuple[Any, ...]:
    found = []
    for column in cls.__mapper__.primary_key:
        value = 1 + number % 2 if column.name == "part" else number
        found.append(str(value) if isinstance(column.type, String) else value)
    return tuple(found)


def value_of(column: Any, number: int) -> Any:
    """What a column gets: a value that rows have, or NULL."""
    if number % 5 == 4 and column.name not in ("id", "part"):
        return None
    if column.name == "kind":
        return KINDS[number % 2]
    return str(1 + number % 4) if isinstance(column.type, String) else 1 + number % 4


Rows = list[Any]
Query = Callable[[Session, Schema, int], Rows]


@dataclass(frozen=True)
class Asked:
    """A query: of what form, about which classes, under which conditions."""

    form: str
    one: int
    two: int
    where: tuple[tuple[str, str, int], ...]

    def condition(self, cls: Any, argument: int, *, at: int = 0) -> Any:
        found = [_term(cls, term, argument) for term in self.where[at:]]
        return and_(true(), *found)


def _term(cls: Any, term: tuple[str, str, int], argument: int) -> Any:
    name, how, given = term
    names = [each.key for each in cls.__mapper__.columns]
    if name not in names:
        name = "id"
    column, value = getattr(cls, name), value_of(cls.__mapper__.columns[name], given + argument)
    other = value_of(cls.__mapper__.columns[name], given + argument + 1)
    if value is None:
        return column.is_(None)
    match how:
        case "=":
            return column == value
        case "in":
            return column.in_([each for each in (value, other) if each is not None])
        case ">":
            return column >= value
        case "or":
            return or_(column == value, cls.number == 2)
        case "not":
            return column != value
        case _:
            return func.coalesce(column, value) == value


def columns_of(cls: Any) -> list[Any]:
    return [getattr(cls, each.key) for each in cls.__mapper__.column_attrs]


def put_in_order(found: Any) -> Rows:
    return sorted((tuple(row) for row in found), key=repr)


def values(entity: Any) -> Any:
    if entity is None:
        return None
    return (type(entity).__name__, *(getattr(entity, each.key) for each in entity.__mapper__.column_attrs))


def values_of(entities: Any) -> Rows:
    return sorted((values(each) for each in entities), key=repr)


def ask(session: Session, schema: Schema, asked: Asked, argument: int) -> Rows:
    """Run one query."""
    one, two = schema.pick(asked.one), schema.pick(asked.two)
    where = asked.condition(one, argument)
    link = schema.link(asked.one + asked.two)
    match asked.form:
        case "get":
            return [values(session.get(one, key_of(one, 1 + (asked.two + 3 * argument) % 6)))]
        case "entities":
            return values_of(session.scalars(select(one).where(where)))
        case "columns":
            return put_in_order(session.execute(select(*columns_of(one)).where(where)))
        case "count":
            return put_in_order(session.execute(select(func.count(), func.max(one.number)).where(where)))
        case "groups":
            grouped = select(one.kind, func.count(one.id)).where(where).group_by(one.kind)
            return put_in_order(session.execute(grouped.having(func.count() > 0)))
        case "exists":
            inner = exists().where(aliased(two).number == one.number)
            return put_in_order(session.execute(select(one.id).where(where, inner)))
        case "not in":
            inner = select(two.code).where(asked.condition(two, argument, at=1), two.code.is_not(None))
            return put_in_order(session.execute(select(one.id).where(one.number.not_in(inner))))
        case "cte":
            some = select(one.number.label("n"), func.count().label("c")).where(where).group_by(one.number).cte("some")
            other = aliased(two)
            joined = select(some.c.n, some.c.c, other.id).join(other, other.code == some.c.n)
            return put_in_order(session.execute(joined))
        case "union":
            both = (union if argument else union_all)(select(one.number).where(where), select(two.code))
            return put_in_order(session.execute(both))
        case "scalar":
            other = aliased(two)
            inner = select(func.max(other.number)).where(other.kind == one.kind).correlate(one).scalar_subquery()
            return put_in_order(session.execute(select(one.id, inner).where(where)))
        case "alias":
            other = aliased(one)
            pairs = select(one.id, other.id).join(other, other.number == one.number).where(where)
            return put_in_order(session.execute(pairs))
        case "derived":
            inner = select(two.code, two.kind).where(asked.condition(two, argument)).subquery()
            return put_in_order(session.execute(select(one.id, inner.c.kind).join(inner, inner.c.code == one.number)))
        case "window":
            rank = func.row_number().over(partition_by=one.kind, order_by=(one.number, *one.__mapper__.primary_key))
            return put_in_order(session.execute(select(one.id, rank).where(where)))
        case "text":
            table = one.__mapper__.base_mapper.local_table.name
            return put_in_order(
                session.execute(text(f"SELECT t.id, t.kind FROM {table} AS t WHERE t.number = :n"), {"n": argument + 1})
            )
        case "from_statement":
            table = one.__mapper__.base_mapper.local_table.name
            root = one.__mapper__.base_mapper.class_
            words = text(f"SELECT * FROM {table} WHERE number >= :n").bindparams(n=argument + 1)
            return values_of(session.scalars(select(root).from_statement(words)))
    if link is None:
        return put_in_order(session.execute(select(one.id, two.id).where(one.number == two.code, where)))
    return _of_link(session, asked, argument, *link)


def _of_link(session: Session, asked: Asked, argument: int, one: Any, column: str, two: Any, by: str, way: str) -> Rows:
    back = f"of_{one.__name__}_{way}"
    other = aliased(two) if one is two else two
    joined = getattr(one, column) == getattr(other, by)
    here, there = asked.condition(one, argument), asked.condition(other if one is not two else one, argument, at=1)
    match asked.form:
        case "join":
            return put_in_order(session.execute(select(one.id, other.id, other.kind).join(other, joined).where(here)))
        case "join, other side":
            return put_in_order(session.execute(select(one.id, one.number).join(other, joined).where(there)))
        case "outer":
            found = select(one.id, other.id, other.number).outerjoin(other, joined).where(here)
            return put_in_order(session.execute(found))
        case "outer, by its condition":
            return put_in_order(session.execute(select(one.id, other.id).outerjoin(other, and_(joined, here))))
        case "any":
            some = getattr(two, back).any(one.number == argument + 1)
            return put_in_order(session.execute(select(two.id).where(some)))
        case "has":
            return put_in_order(session.execute(select(one.id).where(getattr(one, way).has(kind=KINDS[argument % 2]))))
        case "lazy":
            return [[values(each), values(getattr(each, way))] for each in _ordered(session, select(one).where(here))]
        case "lazy, many":
            return [[values(each), values_of(getattr(each, back))] for each in _ordered(session, select(two))]
        case "selectin":
            found = select(two).options(selectinload(getattr(two, back)))
        case "subquery":
            found = select(two).options(subqueryload(getattr(two, back)))
        case _:
            found = select(two).options(joinedload(getattr(two, back)))
    return [[values(each), values_of(getattr(each, back))] for each in _ordered(session, found)]


def _ordered(session: Session, statement: Any) -> Rows:
    return sorted(session.scalars(statement).unique(), key=lambda each: repr(values(each)))


FORMS = (
    *("get", "entities", "entities", "columns", "columns", "count", "groups", "exists", "not in", "cte", "union"),
    *("scalar", "alias", "derived", "window", "text", "from_statement"),
    *("join", "join, other side", "outer", "outer, by its condition", "any", "has", "lazy", "lazy, many"),
    *("selectin", "subquery", "joined"),
)
names = st.sampled_from(("id", "kind", "number", "code", "f0", "f1", "extra"))
term = st.tuples(names, st.sampled_from(("=", "=", "=", "in", ">", "or", "not", "call")), st.integers(0, 4))
queries = st.builds(
    Asked,
    form=st.sampled_from(FORMS),
    one=st.integers(0, 3),
    two=st.integers(0, 3),
    where=st.lists(term, max_size=2).map(tuple),
)


@dataclass(frozen=True)
class Written:
    """One write: how, of which class, which row, which column and what."""

    way: str
    of: int
    row: int
    name: str
    value: int
    term: tuple[str, str, int]


def write(session: Session, schema: Schema, step: Written) -> None:
    """Run one of them."""
    cls = schema.pick(step.of)
    mapper = cls.__mapper__
    table = mapper.base_mapper.local_table
    name = step.name if step.name in mapper.columns and step.name != "id" else "number"
    key, value = key_of(cls, step.row), value_of(mapper.columns[name], step.value)
    where = _term(cls, step.term, 0)
    core_where = _term(mapper.base_mapper.class_, step.term, 0)
    core_name = name if name in table.c else "number"
    core_value = value_of(table.c[core_name], step.value)
    pins = and_(*(column == part for column, part in zip(table.primary_key, key, strict=True)))
    new = dict(zip((each.name for each in table.primary_key), key, strict=True)) | {
        "kind": KINDS[step.value % 2],
        "number": step.value or None,
        "code": step.value + step.row,
        "what": mapper.base_mapper.class_.__name__,
    }
    match step.way:
        case "add" | "add, linked":
            given = {each: part for each, part in new.items() if each != "what"} | {name: value}
            if step.way == "add, linked":
                linked = [each for each in mapper.columns if each.name in ("f0", "f1")]
                given |= {each.name: value_of(each, step.value) for each in linked}
            session.add(cls(**given))
        case "change":
            if found := session.get(cls, key):
                setattr(found, name, value)
        case "remove":
            if found := session.get(cls, key):
                session.delete(found)
        case "rekey":
            if found := session.get(cls, key):
                found.id = key_of(cls, step.value + 1)[0]
        case "merge":
            given = dict(zip((each.name for each in mapper.primary_key), key, strict=True))
            session.merge(cls(**given, **{name: value}))
        case "relate":
            if (link := schema.link(step.of)) is not None:
                one, _, two, _, way = link
                if found := session.get(one, key_of(one, step.row)):
                    setattr(found, way, session.get(two, key_of(two, step.value)))
        case "empty a collection":
            if (link := schema.link(step.of)) is not None:
                one, _, two, _, way = link
                if found := session.get(two, key_of(two, step.row)):
                    setattr(found, f"of_{one.__name__}_{way}", [])
        case "bulk update":
            root = cls if name in table.c else mapper.base_mapper.class_
            session.execute(update(root).where(_term(root, step.term, 0)).values({core_name: core_value}))
        case "bulk update, by key":
            given = dict(zip((each.name for each in mapper.primary_key), key, strict=True))
            session.execute(update(cls), [given | {name: value}])
        case "bulk insert":
            session.execute(insert(cls), [{each: part for each, part in new.items() if each != "what"}])
        case "bulk delete":
            session.execute(delete(mapper.base_mapper.class_).where(where if mapper.single else core_where))
        case "core update":
            session.execute(update(table).where(pins).values({core_name: core_value}))
        case "core update, where":
            session.connection().execute(update(table).where(core_where).values({core_name: core_value}))
        case "core update, by an expression":
            session.execute(update(table).where(core_where).values(number=table.c.number + 1, code=table.c.code + 10))
        case "core update, from":
            other = schema.tables[step.value % len(schema.tables)]
            if other is not table and "code" in other.c:
                session.execute(update(table).where(table.c.number == other.c.code).values({core_name: core_value}))
        case "core insert":
            session.execute(insert(table).values(new))
        case "core inserts":
            second = key_of(cls, step.row + 1)
            session.execute(insert(table), [new, {**new, "id": second[0], "code": None}])
        case "core insert, from select":
            source = select(*(literal(new[each], table.c[each].type) for each in new))
            session.execute(insert(table).from_select(list(new), source))
        case "core delete":
            session.execute(delete(table).where(pins))
        case "core delete, where":
            session.execute(delete(table).where(core_where))
        case "upsert":
            set_ = {core_name: core_value}
            if session.get_bind().dialect.name == "mariadb":
                session.execute(mysql.insert(table).values(new).on_duplicate_key_update(set_))
            else:
                upserted = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert(table)
                by_key = upserted.values(new).on_conflict_do_update(index_elements=list(table.primary_key), set_=set_)
                session.execute(by_key)
        case "or replace":
            if session.get_bind().dialect.name == "sqlite":
                session.execute(insert(table).prefix_with("OR REPLACE").values(new))
        case "update or replace":
            if session.get_bind().dialect.name == "sqlite":
                session.execute(update(table).prefix_with("OR REPLACE").where(pins).values(code=step.value))
        case "text":
            session.execute(text(f"UPDATE {table.name} SET kind = :k WHERE number = :n"), {"k": "b", "n": step.value})
        case "text, delete":
            session.execute(text(f"DELETE FROM {table.name} WHERE code = :n"), {"n": step.value})
        case "savepoint":
            with session.begin_nested():
                session.execute(update(table).where(core_where).values({core_name: core_value}))
        case "savepoint, undone":
            nested = session.begin_nested()
            session.execute(delete(table).where(core_where))
            nested.rollback()
        case "give up":
            session.execute(update(table).values({core_name: core_value}))
            session.rollback()


WAYS = (
    *("add", "add, linked", "change", "change", "remove", "rekey", "merge", "relate", "empty a collection"),
    *("bulk update", "bulk update, by key", "bulk insert", "bulk delete"),
    *("core update", "core update, where", "core update, by an expression", "core update, from", "core insert"),
    *("core inserts", "core insert, from select", "core delete", "core delete, where", "upsert", "or replace"),
    *("update or replace", "text", "text, delete", "savepoint", "savepoint, undone", "give up"),
)
steps = st.builds(
    Written,
    way=st.sampled_from(WAYS),
    of=st.integers(0, 3),
    row=st.integers(1, 7),
    name=names,
    value=st.integers(0, 4),
    term=term,
)
ANY = ("id", "=", 0)
transactions = st.lists(steps, min_size=1, max_size=2)


class World:
    """A database with such a schema, and its functions."""

    def __init__(self, engine: Engine, drawn: list[Shape], functions: list[list[Asked]]) -> None:
        self.engine = engine
        self.schema = Schema(drawn)
        self.cache = Cache("random")
        self.plain = [self._function(number, asked) for number, asked in enumerate([*self._narrow(), *functions])]
        self.cached = [self.cache.query()(function) for function in self.plain]
        self.cache.connect()
        self.cache.watch(engine, self.schema.Base.metadata)
        self.schema.Base.metadata.create_all(engine)
        for row in range(1, 4):
            for number, cls in enumerate(self.schema.classes):
                own = row + 3 * (len(list(cls.__mapper__.iterate_to_root())) - 1)  # one key among all that inherit
                new = [Written(way, number, own, "number", row % 3, ANY) for way in ("add, linked", "add")]
                assert self.attempt(new[:1]) or self.attempt(new[1:]), cls

    def _narrow(self) -> Iterator[list[Asked]]:
        """Functions that depend on as little as there can be, beside which nothing else hides what was not noticed."""
        for number, cls in enumerate(self.schema.classes):
            yield [Asked("columns", number, 0, ())]
            for name in ("id", "kind", "number", "code", "f0", "f1", "extra"):
                if name in cls.__mapper__.columns:
                    yield [Asked("columns", number, 0, ((name, "=", 0),))]

    def _function(self, number: int, asked: list[Asked]) -> Callable[[Session, int], Rows]:
        def function(session: Session, argument: int) -> Rows:
            return [ask(session, self.schema, each, argument) for each in asked]

        function.__qualname__ = function.__name__ = f"function_{number}"
        return function

    def attempt(self, program: list[Written]) -> bool:
        """Run a transaction; whether the database took it."""
        with Session(self.engine) as session:
            try:
                for step in program:
                    write(session, self.schema, step)
                session.commit()
            except (SQLAlchemyError, AssertionError):
                return False
        return True

    def check(self) -> None:
        for plain, cached in zip(self.plain, self.cached, strict=True):
            for argument in (0, 1, 2):
                with Session(self.engine) as session:
                    right = plain(session, argument)
                for _ in range(2):
                    with Session(self.engine) as session:
                        found = cached(session, argument)
                    assert found == right, (plain.__name__, argument)

    def close(self) -> None:
        self.cache.close()
        self.schema.Base.metadata.drop_all(self.engine)
        self.schema.Base.registry.dispose()
        self.engine.dispose()


@contextmanager
def quiet() -> Iterator[None]:
    """Without what SQLAlchemy says of drawn schemas and of rows that are gone already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        warnings.simplefilter("error", NotCached)
        yield


def run(engine: Engine, drawn: list[Shape], functions: list[list[Asked]], program: list[list[Written]]) -> None:
    with quiet():
        world = World(engine, drawn, functions)
        try:
            world.check()
            for each in program:
                note(f"{'taken' if world.attempt(each) else 'refused'}: {each}")
                world.check()
            stats = world.cache.stats()
            assert stats.hits > 0
            assert not stats.unkept, stats.unkept
        finally:
            world.close()


worlds = given(
    drawn=st.lists(shapes, min_size=2, max_size=4),
    functions=st.lists(st.lists(queries, min_size=1, max_size=2), min_size=2, max_size=5),
    program=st.lists(transactions, min_size=4, max_size=10),
)
ASKED_FOR = os.environ.get("PERFKIT_TEST_RANDOM_SCHEMAS")
EXAMPLES = int(ASKED_FOR or "12")
# the same ones in each run of the suite: what has been tried is known; other ones for who asks for more
slow = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=not ASKED_FOR)


@settings(slow, max_examples=max(1, EXAMPLES // 2))
@worlds
def test_on_sqlite(tmp_path_factory, drawn, functions, program):
    """With foreign keys enforced."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('random')}/random.db")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    run(engine, drawn, functions, program)


@settings(slow, max_examples=max(1, EXAMPLES // 6))
@worlds
def test_on_postgresql(pg_url, drawn, functions, program):
    """The same, with its own rules for what may be written and in which order."""
    run(create_engine(pg_url.replace("postgresql:", "postgresql+psycopg:")), drawn, functions, program)


@settings(slow, max_examples=max(1, EXAMPLES // 12))
@worlds
def test_on_mariadb(mariadb_url, drawn, functions, program):
    """Where texts may be equal without being the same."""
    url = mariadb_url.replace("mariadb:", "mariadb+pymysql:")
    run(create_engine(url, isolation_level="READ COMMITTED"), drawn, functions, program)
