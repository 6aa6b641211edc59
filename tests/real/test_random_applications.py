"""Dependencies found by themselves, in applications: what ORMs and SQL can do beside tables and columns.

The classes are those of `tests/real/applications/models.py`, mapped as a drawn plan says. Queries are asked as cached
functions of plain values and of entities, as cached statements, by `get` and `get_many`, and from inside another
cached function; in sessions that block, and in some worlds in those of a loop. After every commit, and in some
transactions before it, each is asked through the cache and without it. PERFKIT_TEST_RANDOM_SCHEMAS=1000 tries more, as
for random schemas.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import isawaitable
from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, create_engine, event, inspect, select
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit import Cache, Policy
from perfkit.cache import Reason, cached
from perfkit.errors import NotCached
from perfkit.waiting import run_now
from tests.real.applications import asking, writing
from tests.real.applications.asking import Asked, Question
from tests.real.applications.models import Models, Plan, create, drop, fill, plans
from tests.real.applications.writing import Step, Transaction
from tests.real.test_random_schemas import EXAMPLES, slow

Form = Callable[[Any, int], Any]
"""A query, asked in a session of either kind with an argument; awaited if it is async."""
LEGITIMATE = {Reason.IDENTITY_MAP, Reason.LOADER_WROTE, Reason.OWN_WRITES, Reason.SNAPSHOT}


class Stale(Exception):
    """An answer that is not the database's own."""


def seen(value: Any, depth: int = 2) -> Any:
    """What can be compared: of an entity its class, its columns, and the relations that are loaded."""
    if isinstance(value, list):
        return sorted((seen(each, depth) for each in value), key=repr)
    state = inspect(value, raiseerr=False)
    if state is None or not hasattr(state, "mapper"):
        return repr(value)
    found: list[Any] = [type(value).__name__]
    loaded = [each.key for each in state.mapper.column_attrs if each.key in state.dict]
    found += [(key, repr(getattr(value, key))) for key in loaded]
    for each in state.mapper.relationships if depth else ():
        if each.key in state.dict:
            related = state.dict[each.key]
            found.append((each.key, seen(list(related) if each.uselist else related, depth - 1)))
    return found


class World:
    """A database of such an application, and its functions."""

    def __init__(self, engine: Engine | AsyncEngine, plan: Plan, asked: list[Asked]) -> None:
        self.given, self.models = engine, Models(plan)
        self.suspends = isinstance(engine, AsyncEngine)
        self.engine: Engine = getattr(engine, "sync_engine", engine)
        self.dialect = self.engine.dialect.name
        self.runner = asyncio.Runner()
        self.cache = Cache("applications", Policy(l1=plan.l1))
        self.forms: list[tuple[Any, Form, Form]] = []  # what it is, without the cache, and through it
        self.cache.connect()
        self.cache.watch(engine, self.models.metadata, reads={"busy": ["items"]})
        for number, each in enumerate([*self._narrow(), *asked]):
            self.forms.append((each, *self._form(number, each)))
        self.run(self._make)

    async def _make(self, session: Any) -> None:
        await _within(session, lambda each: create(each.connection(), self.models))
        await _within(session, lambda each: fill(each, self.models))
        await _done(session.commit())

    def _narrow(self) -> Iterator[Any]:
        """Functions that depend on as little as there can be, beside which nothing hides what was not noticed."""
        for table in self.models.metadata.sorted_tables:
            fine = {*table.primary_key.columns.keys(), *table.info.get("cache_tags", ())}
            yield from ((table, name) for name in (None, *sorted(fine)))

    def _form(self, number: int, asked: Any) -> tuple[Form, Form]:
        if isinstance(asked, tuple):
            return self._cached(number, lambda session, argument: self._part(session, asked, argument))
        if asked.form == "lookup":
            return self._lookup(asked)

        def question(argument: int) -> Question:
            return Question(self.models, self.dialect, asked, argument)

        ask = asking.BY_NAME[asked.name]
        if ask in asking.CODE:
            return self._cached(number, lambda session, argument: ask(session, question(argument)), asked.form)
        is_of_entities = ask in asking.ENTITIES
        form = asked.form
        is_refused = self.models.plan.is_written_later or ask in asking.NEVER_KEPT_AS_ENTITIES
        if is_of_entities and is_refused and form in ("entities", "statement"):
            form = "plain"

        def run(session: Session, argument: int, option: Any = None) -> Any:
            statement = ask(question(argument))
            if option is not None and hasattr(statement, "options"):
                statement = statement.options(option)
            if is_of_entities:
                return list(session.scalars(statement).unique())
            return [tuple(row) for row in session.execute(statement)]

        if form == "statement":
            option = cached(f"statement {number}", cache=self.cache)
            return self._either(lambda session, n: seen(run(session, n))), self._either(
                lambda session, n: seen(run(session, n, option))
            )
        if form == "entities":
            return self._cached(number, run, "entities")
        return self._cached(number, lambda session, argument: seen(run(session, argument)), form)

    def _part(self, session: Session, place: tuple[Table, str | None], argument: int) -> Any:
        """Rows of one table; those with one value of a column."""
        table, name = place
        statement = select(table)
        if name is not None:
            statement = statement.where(asking.condition(table, (name, "=", argument + 1), 0))
        return sorted((tuple(row) for row in session.execute(statement)), key=repr)

    def _cached(self, number: int, work: Callable[[Session, int], Any], form: str = "plain") -> tuple[Form, Form]:
        """`work` as a function of either kind, and the same one cached."""

        def function(session: Session, argument: int) -> Any:
            return work(session, argument)

        async def later(session: AsyncSession, argument: int) -> Any:
            return await session.run_sync(work, argument)

        plain: Any = later if self.suspends else function
        plain.__qualname__ = plain.__name__ = f"function_{number}"
        kept = self.cache.query(entities=True if form == "entities" else None)(plain)
        if form == "nested":
            kept = self._nested(number, kept)
        if form != "entities":
            return plain, kept
        return _looked_at(plain), _looked_at(kept)

    def _nested(self, number: int, inner: Form) -> Form:
        def outer(session: Session, argument: int) -> Any:
            return [inner(session, argument)]

        async def outer_later(session: AsyncSession, argument: int) -> Any:
            return [await inner(session, argument)]

        around: Any = outer_later if self.suspends else outer
        around.__qualname__ = around.__name__ = f"around_{number}"
        kept = self.cache.query()(around)

        async def opened(session: Any, argument: int) -> Any:
            return (await _done(kept(session, argument)))[0]

        return opened

    def _lookup(self, asked: Asked) -> tuple[Form, Form]:
        cls = self.models.roots[asked.number % len(self.models.roots)]
        if self.models.plan.is_written_later and cls in (self.models.Label, self.models.Membership, self.models.Grant):
            cls = self.models.Item
        size = len(cls.__mapper__.primary_key)

        def keys(argument: int) -> list[Any]:
            found = [1 + (asked.number + argument + i) % 5 for i in range(3)]
            return [(key, str(key)) for key in found] if size == 2 else found

        async def one(session: Any, argument: int) -> Any:
            return seen(await _done(session.get(cls, keys(argument)[0])), 1)  # get_many keeps more, further down

        async def one_kept(session: Any, argument: int) -> Any:
            return seen(await _done(self.cache.get(session, cls, keys(argument)[0])), 1)

        async def many(session: Any, argument: int) -> Any:
            found = [await _done(session.get(cls, key)) for key in keys(argument)]
            return seen([each for each in found if each is not None], 0)  # the first may bring the second, less loaded

        async def many_kept(session: Any, argument: int) -> Any:
            found = await _done(self.cache.get_many(session, cls, keys(argument)))
            return seen(list(found.values()), 0)

        return (one, one_kept) if asked.name == "get" else (many, many_kept)

    def _either(self, work: Callable[[Session, int], Any]) -> Form:
        async def asks(session: Any, argument: int) -> Any:
            return await _within(session, work, argument)

        return asks

    def run(self, work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        """`work` in a session of its own."""
        if not self.suspends:
            with Session(self.engine, **options) as session:
                return run_now(work(session))

        async def suspending() -> Any:
            async with AsyncSession(self.given, **options) as session:
                return await work(session)

        return self.runner.run(suspending())

    def attempt(self, transaction: Transaction) -> bool:
        """Run a transaction; whether the database took it."""
        is_twophase = transaction.is_twophase and self.dialect != "sqlite" and not self.suspends

        async def work(session: Any) -> None:
            logs = self.models.plan.logs
            for written in transaction.steps:
                if logs == "before" or (logs and written.name == "commit_between"):
                    self.cache.touch(session, self.models.Log)
                step = Step(self.models, written)
                await _within(session, writing.BY_NAME[written.name], step)
                if logs == "after":
                    self.cache.touch(session, self.models.Log)
                if transaction.looks:
                    await self._look(session)
            await _done(session.commit())

        try:
            self.run(work, twophase=is_twophase)
        except (SQLAlchemyError, AssertionError, ValueError, AttributeError) as refused:
            note(f"refused: {type(refused).__name__} {str(refused)[:200]}")
            return False
        return True

    async def _look(self, session: Any) -> None:
        """In the same session, which may hold entities with more of them loaded, or less: so rows only."""
        for what, plain, kept in self.forms:
            if isinstance(what, tuple) or asking.BY_NAME.get(what.name) in asking.ROWS:
                _compare(what, 1, await _done(kept(session, 1)), await _done(plain(session, 1)))

    def check(self) -> None:
        """Each function twice: what it has kept before is out of date or right, and what it keeps now is right."""
        for what, plain, kept in self.forms:
            if isinstance(what, tuple):
                continue
            for argument in (0, 1):
                right = self.ask(plain, argument)
                for _ in range(2 - argument):
                    _compare(what, argument, self.ask(kept, argument), right)
        narrow = [(*each, argument) for each in self.forms if isinstance(each[0], tuple) for argument in (0, 1, 2)]

        async def right_ones(session: Any) -> list[Any]:
            return [await _done(plain(session, argument)) for _, plain, _, argument in narrow]

        for (what, _, kept, argument), right in zip(narrow, self.run(right_ones), strict=True):
            _compare(what, argument, self.ask(kept, argument), right)

    def ask(self, form: Form, argument: int) -> Any:
        """The answer, in a session of its own."""
        return self.run(lambda session: _done(form(session, argument)))

    def close(self) -> None:
        self.cache.close()

        async def gone(session: Any) -> None:
            await _within(session, lambda each: drop(each.connection(), self.models))
            await _done(session.commit())

        self.run(gone)
        self.models.Base.registry.dispose()
        if isinstance(self.given, AsyncEngine):
            self.runner.run(self.given.dispose())
        self.engine.dispose()
        self.runner.close()


def _compare(what: Any, argument: int, found: Any, right: Any) -> None:
    if found != right:
        raise Stale(f"{what} of {argument}: the cache has {found}, the database {right}")


async def _done(value: Any) -> Any:
    return await value if isawaitable(value) else value


async def _within(session: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """`work` of a session that blocks, in whichever it is."""
    if isinstance(session, AsyncSession):
        return await session.run_sync(work, *arguments)
    return work(session, *arguments)


def _looked_at(function: Form) -> Form:
    async def looks(session: Any, argument: int) -> Any:
        return seen(await _done(function(session, argument)))

    return looks


@contextmanager
def quiet() -> Iterator[None]:
    """Without what SQLAlchemy says of drawn classes and of rows that are gone already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of `touch` in a transaction that turned out to write nothing
        warnings.simplefilter("error", NotCached)
        yield


def run(engine: Engine | AsyncEngine, plan: Plan, asked: list[Asked], program: list[Transaction]) -> None:
    with quiet():
        world = World(engine, plan, asked)
        try:
            world.check()
            for each in program:
                is_taken = world.attempt(each)
                note(f"{'taken' if is_taken else 'refused'}: {each}")
                world.check()
                if not is_taken and len(each.steps) > 1:
                    alone = [world.attempt(replace(each, steps=(step,))) for step in each.steps]
                    note(f"each alone: {alone}")
                    world.check()
            stats = world.cache.stats()
            assert stats.hits > 0
            assert stats.unkept.keys() <= LEGITIMATE, stats.unkept
        finally:
            world.close()


worlds = given(
    plan=plans,
    asked=st.lists(asking.queries, min_size=4, max_size=7),
    program=st.lists(writing.transactions, min_size=5, max_size=10),
    suspends=st.sampled_from((False, False, False, True)),
)


@settings(slow, max_examples=max(1, EXAMPLES // 3))
@worlds
def test_on_sqlite(tmp_path_factory, plan, asked, program, suspends):
    """With foreign keys enforced."""
    path = f"{tmp_path_factory.mktemp('applications')}/applications.db"
    make: Any = create_async_engine if suspends else create_engine
    engine = make(f"sqlite{'+aiosqlite' if suspends else ''}:///{path}")
    sync = getattr(engine, "sync_engine", engine)
    event.listen(sync, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    run(engine, plan, asked, program)


@settings(slow, max_examples=max(1, EXAMPLES // 4))
@worlds
def test_on_postgresql(pg_url, plan, asked, program, suspends):
    """With arrays, LATERAL, writes inside WITH, two phases."""
    make: Any = create_async_engine if suspends else create_engine
    url = pg_url.replace("postgresql:", f"postgresql+{'asyncpg' if suspends else 'psycopg'}:")
    run(make(url), plan, asked, program)


@settings(slow, max_examples=max(1, EXAMPLES // 12))
@worlds
def test_on_mariadb(mariadb_url, plan, asked, program, suspends):
    """Blocking in READ COMMITTED, on a loop in REPEATABLE READ: its default, which reads from snapshots."""
    make: Any = create_async_engine if suspends else create_engine
    level = "REPEATABLE READ" if suspends else "READ COMMITTED"
    url = mariadb_url.replace("mariadb:", f"mariadb+{'aiomysql' if suspends else 'pymysql'}:")
    run(make(url, isolation_level=level), plan, asked, program)
