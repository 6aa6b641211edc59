"""Random programs with and without auto-batching: `python -m tests.batching.fuzz 10000` runs as many.

A program is a list of steps that a seed decides: queries with loader options, walks along attributes, changes, flushes,
commits, rollbacks, savepoints, expiry, merges, writes by the ORM, by Core and by SQL text. It runs twice on the same
rows, and after each step what can be observed must be the same: values, identities, what is loaded of each object,
what the session holds and takes for changed, errors and warnings.

Each half of the programs runs on SQLite and, given the URL of one, on PostgreSQL.
"""

from __future__ import annotations

import gc
import logging
import random
import re
import sqlite3
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

from sqlalchemy import Engine, StaticPool, create_engine, delete, event, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    Session,
    defer,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
)

from perfkit.loading import autobatch
from tests.batching.models import (
    Base,
    BigDepot,
    Bin,
    Contract,
    Customer,
    Depot,
    GlassBin,
    Label,
    Organization,
    PaperBin,
    Place,
    Route,
    Sensor,
    Setting,
    Tag,
    Visit,
    Weighing,
    fill,
)

ENTITIES: list[Any] = [
    *(Bin, Bin, Bin, Customer, Customer, Customer, Organization, Tag, Visit, Place, Route, Weighing, Contract),
    *(GlassBin, PaperBin, Depot, BigDepot, Sensor, Setting, Label),
]
OPTIONS: dict[Any, list[Callable[[], Any]]] = {
    Bin: [
        lambda: joinedload(Bin.customer),
        lambda: selectinload(Bin.visits),
        lambda: lazyload(Bin.customer).joinedload(Customer.organization),
        lambda: lazyload(Bin.customer).selectinload(Customer.tags),
        lambda: lazyload(Bin.customer).undefer(Customer.note),
        lambda: lazyload(Bin.customer).load_only(Customer.name),
        lambda: lazyload(Bin.customer).raiseload(Customer.tags),
        lambda: lazyload(Bin.visits.and_(Visit.kilos > 5)),
        lambda: raiseload(Bin.sensor),
        lambda: raiseload(Bin.customer, sql_only=True),
        lambda: load_only(Bin.kilos),
        lambda: defer(Bin.customer_id),
        lambda: immediateload(Bin.sensor),
        lambda: selectinload(Bin.customer).lazyload(Customer.organization).joinedload(Organization.parent),
        lambda: with_loader_criteria(Visit, Visit.kilos < 30),
        lambda: with_loader_criteria(Customer, Customer.id != 3),
    ],
    Customer: [
        lambda: selectinload(Customer.bins),
        lambda: joinedload(Customer.bins),
        lambda: subqueryload(Customer.tags),
        lambda: joinedload(Customer.organization).lazyload(Organization.contracts),
        lambda: lazyload(Customer.organization).lazyload(Organization.contracts),
        lambda: lazyload(Customer.bins).joinedload(Bin.sensor),
        lambda: lazyload(Customer.bins).joinedload(Bin.visits),
        lambda: lazyload(Customer.bins).selectinload(Bin.visits),
        lambda: lazyload(Customer.bins).defer(Bin.kilos),
        lambda: undefer(Customer.note),
        lambda: undefer(Customer.bin_count),
        lambda: defer(Customer.name),
        lambda: defer(Customer.name, raiseload=True),
        lambda: load_only(Customer.name),
        lambda: with_loader_criteria(Bin, Bin.kilos > 20),
    ],
    Organization: [
        lambda: lazyload(Organization.contracts),
        lambda: lazyload(Organization.children).joinedload(Organization.customers),
        lambda: selectinload(Organization.children).selectinload(Organization.children),
        lambda: joinedload(Organization.parent),
    ],
    Visit: [lambda: joinedload(Visit.bin), lambda: lazyload(Visit.bin).joinedload(Bin.customer)],
    Place: [lambda: joinedload(Place.bin), lambda: selectinload(Place.route)],
}
SKIPPED = {"dynamic", "written"}
ERRORS = (SQLAlchemyError, AssertionError, AttributeError, TypeError, KeyError, ValueError)


class Program:
    """The steps of one seed, as they go on one session. Notes what can be seen after each."""

    def __init__(self, seed: int, make_session: Callable[[], Session], *, collects: bool) -> None:
        self.random = random.Random(seed)
        self.collect: Callable[[], Any] = gc.collect if collects else lambda: None
        self.make_session = make_session
        self.sessions = [make_session() for _ in range(1 if self.random.random() < 0.8 else 2)]
        self.lists: list[tuple[Session, list[Any]]] = []
        self.seen: list[Any] = []
        self.new_ids = iter(range(1000, 9999))

    def run(self) -> list[Any]:
        """Everything that was seen."""
        names = list(STEPS)
        weights = list(STEPS.values())
        self.step(query)
        for _ in range(self.random.randint(3, 14)):
            (chosen,) = self.random.choices(names, weights)
            self.step(chosen)
        for session in self.sessions:
            session.close()
        return self.seen

    def step(self, step: Callable[[Program], Any]) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = step(self)
            except ERRORS as error:
                found = (type(error).__name__, _plain(str(error)))
        self.seen.append((step.__name__, found, [_plain(str(each.message)) for each in told], self._state()))

    def _state(self) -> Any:
        """What can be seen without a load: of the sessions, and of the objects that the program holds."""
        self.collect()
        sessions = [
            (
                # the error of a flush holds what was flushed before, in the order of addresses in memory
                sorted(map(str, session.identity_map.keys())) if session.is_active else None,
                sorted(map(_name, session.dirty)),
                len(session.new),
                sorted(map(_name, session.deleted)),
                session.in_transaction(),
            )
            for session in self.sessions
        ]
        held = [each for _, several in self.lists for each in several]
        objects = [(_name(each), sorted(inspect(each).unloaded), inspect(each).expired) for each in held]
        return sessions, objects

    def chosen(self) -> tuple[Session, list[Any]]:
        if not self.lists:
            raise ValueError("nothing there")
        return self.random.choice(self.lists)

    def one(self) -> tuple[Session, Any]:
        session, held = self.chosen()
        if not held:
            raise ValueError("nothing there")
        return session, self.random.choice(held)


def _name(entity: Any) -> str:
    return f"{type(entity).__name__} {inspect(entity).identity}"


def _plain(message: str) -> str:
    if message.startswith("Dependency rule"):  # which one of several, depends on addresses in memory
        return "Dependency rule"
    return re.sub(r"0x[0-9a-f]+|\[SQL.*|\(Background.*", "", message, flags=re.DOTALL)[:200]


def described(value: Any) -> Any:
    """A value without loading anything."""
    if isinstance(value, list):
        return [described(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(described, value)))
    if isinstance(value, dict):
        return {key: described(each) for key, each in sorted(value.items())}
    state = inspect(value, raiseerr=False)
    if state is None or not hasattr(state, "dict"):
        return value
    loaded = {name: each for name, each in state.dict.items() if name in state.mapper.column_attrs}
    return _name(value), sorted(loaded.items(), key=str), type(value).__name__


# ---- steps


def query(program: Program) -> Any:
    """Load objects, with options, and hold them."""
    rng = program.random
    session = rng.choice(program.sessions)
    entity = rng.choice(ENTITIES)
    statement = select(entity).order_by(*inspect(entity).primary_key)
    options = OPTIONS.get(entity, [])
    for make in rng.sample(options, min(len(options), rng.choice((0, 0, 0, 1, 1, 2)))):
        statement = statement.options(make())
    if rng.random() < 0.2:
        statement = statement.limit(rng.randint(1, 6))
    if rng.random() < 0.08:
        statement = statement.execution_options(populate_existing=True)
    if rng.random() < 0.05:
        statement = statement.execution_options(perfkit_autobatch=False)
    if rng.random() < 0.06:
        found = []
        for part in session.scalars(statement.execution_options(yield_per=5)).partitions():
            _read(program, part, _attribute(rng, entity), found)
            program.lists.append((session, list(part)))
        return found
    held = list(session.scalars(statement).unique())
    program.lists.append((session, held))
    del program.lists[:-4]
    return described(held)


def _attribute(rng: random.Random, entity: Any) -> str:
    mapper = inspect(entity)
    names = [each.key for each in mapper.relationships if each.key not in SKIPPED]
    if rng.random() < 0.3 or not names:
        names = list(mapper.column_attrs.keys())
    return rng.choice(sorted(names))


def _read(program: Program, objects: Any, name: str, found: list[Any]) -> list[Any]:
    """`name` of each; and what that leads to."""
    following: list[Any] = []
    for each in objects:
        program.collect()
        try:
            value = getattr(each, name)
        except ERRORS as error:
            found.append((type(error).__name__, _plain(str(error))))
            continue
        found.append(described(value))
        values = value.values() if isinstance(value, dict) else value
        parts = list(values) if isinstance(value, dict | list | set) else [value]
        following += [part for part in parts if inspect(part, raiseerr=False) is not None and hasattr(part, "metadata")]
    return sorted(following, key=_name)


def walk(program: Program) -> Any:
    """An attribute of each of a list, forwards, backwards or of some; then of those that it leads to."""
    rng = program.random
    _, held = program.chosen()
    objects = list(held)
    if (way := rng.random()) < 0.15:
        objects.reverse()
    elif way < 0.3:
        objects = objects[rng.randint(0, 3) :: rng.randint(1, 3)]
    elif way < 0.4:
        rng.shuffle(objects)
    found: list[Any] = []
    for _ in range(rng.randint(1, 3)):
        if not objects:
            break
        objects = _read(program, objects, _attribute(rng, type(rng.choice(objects))), found)
    return found


def chain(program: Program) -> Any:
    """Several attributes of the first, then of the next, down to the end each time."""
    rng = program.random
    _, held = program.chosen()
    if not held:
        return None
    found: list[Any] = []
    seed = rng.random()
    for each in held:
        steps = random.Random(seed)
        objects = [each]
        for _ in range(3):
            if not objects:
                break
            objects = _read(program, objects[:3], _attribute(steps, type(objects[0])), found)
    return found


def walk_and_write(program: Program) -> Any:
    """Read of each, and write something after some of them."""
    rng = program.random
    session, held = program.chosen()
    if not held:
        return None
    name = _attribute(rng, type(rng.choice(held)))
    every = rng.randint(1, 4)
    write = rng.choice(WRITES)
    found: list[Any] = []
    for number, each in enumerate(list(held)):
        _read(program, [each], name, found)
        if number % every == 0:
            try:
                program.collect()
                found.append(write(program, session))
            except ERRORS as error:
                found.append((type(error).__name__, _plain(str(error))))
                with suppress(SQLAlchemyError):
                    session.rollback()
    return found


def one_attribute(program: Program) -> Any:
    found: list[Any] = []
    _, entity = program.one()
    _read(program, [entity], _attribute(program.random, type(entity)), found)
    return found


def write_something(program: Program) -> Any:
    return program.random.choice(WRITES)(program, program.random.choice(program.sessions))


def core_update(program: Program, session: Session) -> Any:
    rng = program.random
    number = rng.randint(1, 9)
    statement: Any = rng.choice(
        (
            lambda: update(Base.metadata.tables["bins"]).values(customer_id=number),
            lambda: update(Base.metadata.tables["customers"]).values(name=f"core {number}", note=f"core {number}"),
            lambda: update(Base.metadata.tables["tags"]).values(name=f"core {number}"),
            lambda: delete(Base.metadata.tables["customer_tags"]),
            lambda: update(Base.metadata.tables["organizations"]).values(parent_id=None),
            lambda: update(Base.metadata.tables["visits"]).values(kilos=number),
        )
    )()
    key = next(iter(statement.table.primary_key))
    return session.execute(statement.where(key % 3 == rng.randint(0, 2))).rowcount


def bulk_update(program: Program, session: Session) -> Any:
    rng = program.random
    how = rng.choice(("auto", False, "fetch", "evaluate"))
    statement: Any = rng.choice(
        (
            update(Bin).values(kilos=rng.randint(1, 99)).where(Bin.id > rng.randint(1, 20)),
            update(Customer).values(organization_id=rng.randint(1, 7)).where(Customer.id == rng.randint(1, 9)),
            delete(Label).where(Label.customer_id == rng.randint(1, 7)),
        )
    )
    return session.execute(statement.execution_options(synchronize_session=how)).rowcount


def text_update(program: Program, session: Session) -> Any:
    number = program.random.randint(1, 9)
    sql = program.random.choice(
        (
            "UPDATE customers SET name = 'text' WHERE id = :n",
            "DELETE FROM customer_tags WHERE customer_id = :n",
            "UPDATE bins SET customer_id = NULL WHERE id = :n",
        )
    )
    return session.connection().execute(text(sql), {"n": number}).rowcount


def change(program: Program, session: Session) -> Any:
    rng = program.random
    _, entity = program.one()
    names = [
        name
        for name in ("kilos", "name", "note", "customer_id", "organization_id", "position", "tag_id", "reader_id")
        if name in inspect(type(entity)).column_attrs
    ]
    if not names:
        raise ValueError("no such column")
    name = rng.choice(sorted(names))
    setattr(entity, name, f"changed {rng.random():.3f}" if name in ("name", "note") else rng.randint(1, 4))
    return _name(entity), name


def relate(program: Program, session: Session) -> Any:
    rng = program.random
    _, entity = program.one()
    others = [each for other, held in program.lists if other is inspect(entity).session for each in held]
    if isinstance(entity, Bin):
        entity.customer = rng.choice([None, *(each for each in others if isinstance(each, Customer))])
    elif isinstance(entity, Customer):
        chosen = rng.choice(("tags", "bins", "organization", "settings", "labels"))
        number = next(program.new_ids)
        if chosen == "tags":
            entity.tags.append(Tag(id=number, name="new"))
        elif chosen == "bins":
            entity.bins.append(Bin(id=number, kilos=1))
        elif chosen == "organization":
            entity.organization = rng.choice([None, *(each for each in others if isinstance(each, Organization))])
        elif chosen == "settings":
            entity.settings[f"new {number}"] = Setting(id=number, name=f"new {number}")
        else:
            entity.labels.add(Label(id=number, text="new"))
    elif isinstance(entity, Visit):
        entity.weighings.append(Weighing(id=next(program.new_ids)))
    elif isinstance(entity, Organization):
        entity.children.append(Organization(id=(number := next(program.new_ids)), code=f"N{number}"))
    return _name(entity)


def take_out(program: Program, session: Session) -> Any:
    _, entity = program.one()
    if isinstance(entity, Customer) and program.random.random() < 0.5:
        if entity.bins:
            entity.bins.pop(0)
        if entity.tags:
            entity.tags.pop()
    else:
        owner = inspect(entity).session
        if owner is not None:
            owner.delete(entity)
    return _name(entity)


def add(program: Program, session: Session) -> Any:
    number = next(program.new_ids)
    session.add(
        program.random.choice(
            (
                lambda: Bin(id=number, customer_id=program.random.randint(1, 7)),
                lambda: Customer(id=number, name="new", organization_id=2),
                lambda: Visit(bin_id=14, number=number),
            )
        )()
    )
    return number


def flush(program: Program, session: Session) -> Any:
    return session.flush()


WRITES = [core_update, core_update, bulk_update, text_update, change, change, relate, relate, take_out, add, flush]


def commit(program: Program) -> Any:
    for session in program.sessions:
        session.commit()


def rollback(program: Program) -> Any:
    return program.random.choice(program.sessions).rollback()


def savepoint(program: Program) -> Any:
    """Something inside a savepoint, that is kept or not."""
    session = program.random.choice(program.sessions)
    inner = session.begin_nested()
    found = [program.random.choice((write_something, walk, walk_and_write))(program)]
    if inner.is_active:
        inner.rollback() if program.random.random() < 0.6 else inner.commit()
    return found, walk(program)


def expire(program: Program) -> Any:
    rng = program.random
    session, entity = program.one()
    if (way := rng.random()) < 0.3:
        return session.expire_all()
    if way < 0.6:
        return session.expire(entity)
    return session.expire(entity, [_attribute(rng, type(entity)) for _ in range(2)])


def refresh(program: Program) -> Any:
    session, entity = program.one()
    session.refresh(entity, None if program.random.random() < 0.6 else [_attribute(program.random, type(entity))])
    return described(entity)


def expunge(program: Program) -> Any:
    session, entity = program.one()
    session.expunge(entity)
    if program.random.random() < 0.5:
        session.add(entity)
    return _name(entity)


def merge(program: Program) -> Any:
    """Into another session, or the same, without a look at the database or with one."""
    _, entity = program.one()
    session = program.random.choice(program.sessions)
    merged = session.merge(entity, load=program.random.random() < 0.6)
    program.lists.append((session, [merged]))
    return described(merged)


def get(program: Program) -> Any:
    """By primary key, which may be there already."""
    rng = program.random
    session = rng.choice(program.sessions)
    found = session.get(rng.choice((Customer, Bin, Organization, Tag)), rng.randint(1, 8))
    program.lists.append((session, [] if found is None else [found]))
    return described(found)


def let_go(program: Program) -> Any:
    """Forget a list, and collect garbage."""
    if program.lists:
        program.lists.pop(program.random.randrange(len(program.lists)))
    if program.random.random() < 0.5:
        gc.collect()


def without_autoflush(program: Program) -> Any:
    session = program.random.choice(program.sessions)
    with session.no_autoflush:
        return write_something(program), walk(program)


def toggle(program: Program) -> Any:
    """Between two statements of Core that read."""
    session = program.random.choice(program.sessions)
    return session.execute(text("SELECT count(*) FROM bins")).scalar(), walk(program)


STEPS: dict[Callable[[Program], Any], int] = {
    query: 10,
    walk: 22,
    chain: 10,
    walk_and_write: 8,
    one_attribute: 6,
    write_something: 9,
    commit: 3,
    rollback: 2,
    savepoint: 4,
    expire: 4,
    refresh: 2,
    expunge: 2,
    merge: 2,
    get: 4,
    let_go: 3,
    without_autoflush: 3,
    toggle: 2,
}


# ---- databases


class OnSqlite:
    """A copy of the same rows for each session: what one writes, another does not see."""

    def __init__(self) -> None:
        self.filled = create_engine("sqlite://", poolclass=StaticPool)
        fill(self.filled)

    @contextmanager
    def sessions(self, told: Callable[[], None]) -> Iterator[Callable[[], Session]]:
        with ExitStack() as stack:
            yield lambda: Session(stack.enter_context(self.copied(told)))

    @contextmanager
    def copied(self, told: Callable[[], None]) -> Iterator[Engine]:
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        original: Any = self.filled.raw_connection().driver_connection
        original.backup(copy)
        engine = create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool)
        _count(engine, told)
        try:
            yield engine
        finally:
            engine.dispose()
            copy.close()


class OnPostgres:
    """A transaction around each run, that is rolled back: a commit of the program ends a savepoint.

    A second session is on SQLite: two with savepoints on one connection would be in each other's way.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        Base.metadata.drop_all(self.engine)
        fill(self.engine)
        self.other = OnSqlite()
        self.told: Callable[[], None] = lambda: None
        _count(self.engine, lambda: self.told())

    @contextmanager
    def sessions(self, told: Callable[[], None]) -> Iterator[Callable[[], Session]]:
        self.told = told
        with self.engine.connect() as connection, connection.begin() as whole, self.other.sessions(told) as others:
            makers = iter([lambda: Session(connection, join_transaction_mode="create_savepoint"), others])
            yield lambda: next(makers)()
            whole.rollback()


def _count(engine: Engine, told: Callable[[], None]) -> None:
    event.listen(engine, "before_cursor_execute", lambda *given: told())


def seen(
    seed: int, database: OnSqlite | OnPostgres, block: AbstractContextManager[Any], *, collects: bool
) -> tuple[list[Any], int]:
    """What the program of `seed` sees, and how many statements it sends.

    Garbage is collected where the program does it or, if `collects`, all the time.
    """
    sent = Counter[str]()
    with database.sessions(lambda: sent.update(["statement"])) as make:
        gc.disable()
        try:
            with block:
                return Program(seed, make, collects=collects).run(), sent["statement"]
        finally:
            gc.enable()


class Compared(NamedTuple):
    """The first step that is not the same, if any, and how many statements were sent without and with batching.

    `is_undetermined` when the program without batching does not see the same as itself, either.
    """

    found: str | None
    before: int
    after: int
    is_undetermined: bool = False


def difference(seed: int, database: OnSqlite | OnPostgres, **options: Any) -> Compared:
    """What the program of `seed` sees differently with batching.

    A session shows what is garbage until it is collected, and errors and loads leave some in circles: what differs is
    run once more with garbage collected all the time. And flushes go through sets in the order of addresses: what
    differs still is compared with itself.
    """
    for collects in (False, True):
        if collects:
            gc.collect()
            gc.freeze()  # what is there already is no garbage, and need not be looked through each time
        plain, before = seen(seed, database, nullcontext(), collects=collects)
        batched, after = seen(seed, database, autobatch(**options), collects=collects)
        found = _first_of(seed, plain, batched)
        if found is None:
            return Compared(None, before, after)
    again = (seen(seed, database, nullcontext(), collects=True)[0] for _ in range(12))
    if any(_first_of(seed, plain, other) for other in again):
        return Compared(None, before, after, is_undetermined=True)
    return Compared(found, before, after)


def _first_of(seed: int, plain: list[Any], batched: list[Any]) -> str | None:
    for number, (one, other) in enumerate(zip(plain, batched, strict=False)):
        if one != other:
            return f"seed {seed}, step {number}, {one[0]}:\n  {_where(one, other)}"
    return None


def _where(one: Any, other: Any, path: str = "") -> str:
    if type(one) is type(other) and isinstance(one, list | tuple) and len(one) == len(other):
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return _where(left, right, f"{path}[{place}]")
    return f"{path}\n  without {one!r}\n  with    {other!r}"


def main(count: int, url: str | None, first: int = 0) -> int:
    """How many of `count` programs differ."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of pipelines that an error ends
    databases: list[Any] = [OnSqlite(), *([OnPostgres(url)] if url else [])]
    differing = before = after = more = undetermined = 0
    began = time.perf_counter()
    for seed in range(first, first + count):
        options = {"trigger": ("first", "adaptive", "second")[seed % 5 % 3], "max_batch": (2000, 2000, 3)[seed % 7 % 3]}
        found, without, with_, is_undetermined = difference(seed, databases[seed % len(databases)], **options)
        before, after, more = before + without, after + with_, more + (with_ > without)
        undetermined += is_undetermined
        if found:
            differing += 1
            print(type(databases[seed % len(databases)]).__name__, found)  # noqa: T201
        if seed % 1000 == 999:
            print(f"{seed + 1} programs, {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
    on = " and ".join(type(each).__name__[2:] for each in databases)
    print(  # noqa: T201
        f"{count} programs on {on}: {differing} differ, {undetermined} differ from themselves; "
        f"{before} statements became {after}, in {more} programs they became more."
    )
    return differing


if __name__ == "__main__":
    from tools import services

    with services.running() as up:
        address = up.postgres_url
        url = address and address.replace("postgresql:", "postgresql+psycopg:")
        wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
        raise SystemExit(bool(main(wanted, url, int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
