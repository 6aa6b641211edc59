"""What a cached function does for whoever calls it."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import column, create_engine, delete, func, insert, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from perfkit import Cache, Policy
from perfkit.cache import MemoryStore, Reason, only
from perfkit.errors import (
    CacheDeclarationError,
    CommitRefused,
    NotCached,
    StoreDown,
    UnkeyableArgument,
    UnknownTag,
    Unpackable,
)
from tests.cache.conftest import Bin, Kit

small_bins = table("bins", column("id"))
Calling = Callable[..., Any]


def test_the_second_call_asks_nobody(kit, calling):
    """A hit, whoever calls and wherever entries live."""
    first = calling(kit, "counts")
    second = calling(kit, "counts")

    assert first == second == {"glass": 2}
    assert kit.loads["counts"] == 1
    assert (kit.cache.stats().hits, kit.cache.stats().fills) == (1, 1)


def test_a_commit_is_seen_by_the_next_read(kit, calling):
    """The promise."""
    calling(kit, "counts")
    kit.write(lambda s: s.add(kit.Bin(name="three", kind="paper")))

    assert calling(kit, "counts") == {"glass": 2, "paper": 1}
    assert calling(kit, "counts") == {"glass": 2, "paper": 1}
    assert kit.loads["counts"] == 2


def test_a_commit_on_an_async_engine_is_seen_too(kit, calling):
    """Its hooks wait underneath, on the same protocol."""

    async def write() -> None:
        async with AsyncSession(kit.async_engine) as session:
            session.add(kit.Bin(name="three", kind="paper"))
            await session.commit()

    calling(kit, "counts")
    kit.runner.run(write())

    assert calling(kit, "counts") == {"glass": 2, "paper": 1}


def test_a_change_of_another_row_leaves_a_row_alone(kit, calling):
    """A row tag is the row's own."""
    assert [calling(kit, "name_of", i) for i in (1, 2)] == ["one", "two"]
    kit.rename(1, "uno")

    assert [calling(kit, "name_of", i) for i in (1, 2)] == ["uno", "two"]
    assert kit.loads["name_of"] == 3


def test_none_is_a_value(kit, calling):
    """And it goes when the row comes."""
    assert [calling(kit, "name_of", 9), calling(kit, "name_of", 9)] == [None, None]
    assert kit.loads["name_of"] == 1

    kit.write(lambda s: s.add(kit.Bin(id=9, name="nine")))

    assert calling(kit, "name_of", 9) == "nine"


@pytest.mark.parametrize(
    "write",
    [
        lambda kit, s: s.execute(update(kit.Bin).where(kit.Bin.id == 1).values(name="new")),
        lambda kit, s: s.execute(update(kit.Bin).where(kit.Bin.kind == "glass").values(name="new")),
        lambda kit, s: s.execute(update(kit.Bin), [{"id": 1, "name": "new"}]),
        lambda kit, s: s.execute(text("UPDATE bins SET name = 'new' WHERE id = 1")),
        lambda kit, s: s.connection().exec_driver_sql("UPDATE bins SET name = 'new' WHERE id = 1"),
        lambda kit, s: s.bulk_update_mappings(kit.Bin, [{"id": 1, "name": "new"}]),
        lambda kit, s: (s.execute(delete(kit.Bin)), s.execute(insert(kit.Bin).values(id=1, name="new"))),
    ],
    ids=["core-row", "core-where", "bulk-by-key", "text", "driver", "legacy-bulk", "delete-insert"],
)
def test_every_way_to_write_is_seen(small, write):
    """ORM, bulk, Core, text and SQL for the driver."""
    with Session(small.engine) as session:
        assert small.sync["name_of"](session, 1) == "one"

    small.write(lambda s: write(small, s))

    with Session(small.engine) as session:
        assert small.sync["name_of"](session, 1) == "new"


def test_an_autocommitted_statement_is_seen(small):
    """It has no COMMIT to hook; the statement is its own."""
    with Session(small.engine) as session:
        small.sync["counts"](session)

    with small.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(small.Bin).values(name="three", kind="paper"))
        with Session(small.engine) as session:
            assert small.sync["counts"](session) == {"glass": 2, "paper": 1}


def test_a_cascade_of_the_database_is_seen(small):
    """The metadata says which tables ON DELETE changes."""
    small.write(lambda s: s.add(small.Team(id=1, name="a")))

    @small.cache.query(tags="bins")
    def teams(session: Session) -> list[int | None]:
        return list(session.scalars(select(small.Bin.team_id).order_by(small.Bin.id)))

    small.write(lambda s: s.execute(update(small.Bin).where(small.Bin.id == 1).values(team_id=1)))
    with Session(small.engine) as session:
        assert teams(session) == [1, None]
        before = small.cache.stats().fills

    small.write(lambda s: s.execute(delete(small.Team).where(small.Team.id == 1)))

    with Session(small.engine) as session:
        teams(session)
    assert small.cache.stats().fills == before + 1


def test_a_transaction_reads_its_own_writes_and_keeps_nothing(small):
    """Uncommitted values never leave it."""
    with Session(small.engine) as session:
        small.sync["name_of"](session, 1)
        session.rollback()
        session.execute(update(small.Bin).where(small.Bin.id == 1).values(name="draft"))
        assert small.sync["name_of"](session, 1) == "draft"
        with Session(small.engine) as other:
            assert small.sync["name_of"](other, 1) == "one"
        session.rollback()

    with Session(small.engine) as session:
        assert small.sync["name_of"](session, 1) == "one"
    assert small.cache.stats().bypasses == {Reason.OWN_WRITES: 1}


def test_pending_objects_count_as_written(small):
    """The next flush would write them."""
    with Session(small.engine) as session:
        small.sync["counts"](session)
        session.add(small.Bin(name="three", kind="paper"))

        assert small.sync["counts"](session) == {"glass": 2, "paper": 1}


def test_a_rolled_back_savepoint_still_counts_as_written(small):
    """More is told than happened, never less; and nothing is published when a savepoint is released."""
    with Session(small.engine) as session:
        small.sync["counts"](session)
        with session.begin_nested():
            session.add(small.Bin(name="three", kind="paper"))
        with Session(small.engine) as other:
            assert small.sync["counts"](other) == {"glass": 2}
        session.rollback()

    with Session(small.engine) as session:
        assert small.sync["counts"](session) == {"glass": 2}
    assert small.loads["counts"] == 1


def test_a_session_that_holds_the_entities_keeps_nothing(small):
    """It would return them as it loaded them."""

    @small.cache.query(tags="bins")
    def names(session: Session) -> list[str]:
        return [each.name for each in session.scalars(select(small.Bin).order_by(small.Bin.id))]

    with Session(small.engine, expire_on_commit=False) as session:
        held = session.get(small.Bin, 1)
        session.commit()
        small.rename(1, "uno")

        assert names(session) == ["one", "two"]
        assert held is not None

    with Session(small.engine) as session:
        assert names(session) == ["uno", "two"]
    assert small.cache.stats().unkept == {Reason.IDENTITY_MAP: 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_session_of_nobodys_shows_of_its_own_writes_is_not_kept(small, kind):
    """A global session is no argument, but the statements run where they can be seen."""
    with Session(small.engine) as session:

        @small.cache.query(tags="bins")
        def names() -> list[str]:
            return list(session.scalars(select(small.Bin.name).order_by(small.Bin.id)))

        @small.cache.query(tags="bins")
        async def anames() -> list[str]:
            return list(session.scalars(select(small.Bin.name).order_by(small.Bin.id)))

        def read() -> list[str]:
            return names() if kind == "sync" else small.runner.run(anames())

        session.execute(update(small.Bin).where(small.Bin.id == 1).values(name="draft"))
        with pytest.warns(RuntimeWarning, match="is not among its arguments"):
            assert read() == ["draft", "two"]
        session.rollback()

        assert read() == ["one", "two"]
    assert small.cache.stats().unkept == {Reason.LOADER_WROTE: 1}


def test_a_session_of_the_caller_that_is_no_argument_is_warned_of_once(small):
    """Whatever it has written, the cache would answer; one that the function makes and ends has written nothing."""
    current = scoped_session(sessionmaker(small.engine))

    @small.cache.query()
    def count(kind: str) -> int | None:
        return current.scalar(select(func.count()).where(Bin.kind == kind))

    @small.cache.query()
    def own(kind: str) -> int | None:
        with Session(small.engine) as session:
            return session.scalar(select(func.count()).where(Bin.kind == kind))

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for kind in ("glass", "paper"):
            count(kind)
            own(kind)
    assert [(each.category, each.filename) for each in told] == [(RuntimeWarning, __file__)]
    assert "count uses a session that is not among its arguments" in str(told[0].message)
    current.remove()


def test_a_function_that_writes_keeps_nothing(small):
    """What it returns may never be committed."""

    @small.cache.query(tags="bins")
    def add(session: Session) -> int:
        session.execute(insert(small.Bin).values(name="three"))
        return 1

    with Session(small.engine) as session, pytest.warns(NotCached, match="add is not cached: a call of it writes bins"):
        add(session)

    assert small.cache.stats().unkept == {Reason.LOADER_WROTE: 1}


class Later:
    """As a coroutine, which would warn that nobody has awaited it."""

    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize(
    ("returned", "advice"),
    [
        (lambda session: select(small_bins), "It is a statement that nobody has run: return list(session.scalars(…))"),
        (lambda session: session.query(small_bins), "It is a statement that nobody has run"),
        (lambda session: Later(), "It is to be awaited: write async def, and return what await gives"),
        (lambda session: object(), "Return built-in types"),
    ],
)
def test_what_cannot_be_kept_says_so_before_the_tags_that_it_would_need(small, returned, advice):
    """Such as what a sync function gets of an AsyncSession: with tags it would be an error as well."""

    @small.cache.query()
    def made(session: Session) -> Any:
        return returned(session)

    with Session(small.engine) as session, pytest.raises(Unpackable, match=re.escape(advice)):
        made(session)


WRITING = {
    "update": lambda table: update(table).where(table.c.id == 1).values(name="new").returning(table.c.name),
    "insert": lambda table: insert(table).values(name="new").returning(table.c.name),
    "delete": lambda table: delete(table).where(table.c.id == 1).returning(table.c.name),
}


@pytest.mark.parametrize("kind", WRITING)
def test_a_function_that_writes_and_has_no_tags_keeps_nothing_and_says_so(small, kind):
    """Its statements read nothing that could make the result out of date, and a hit would not write."""

    @small.cache.query()
    def change(session: Session) -> str:
        return session.execute(WRITING[kind](small.Bin.__table__)).scalars().first() or ""

    said = "a call of it writes bins, and a hit would not. Write where it is called.$"
    with Session(small.engine) as session, pytest.warns(NotCached, match=said):
        change(session)
    with Session(small.engine) as session:
        change(session)

    assert small.cache.stats().unkept == {Reason.LOADER_WROTE: 2}


def test_a_read_after_a_write_of_the_caller_is_not_warned_of(small):
    """It is the caller's transaction that wrote, not the function."""

    @small.cache.query()
    def counted(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(small.Bin)) or 0

    with warnings.catch_warnings(record=True) as told, Session(small.engine) as session:
        warnings.simplefilter("always")
        session.execute(update(small.Bin).where(small.Bin.id == 1).values(name="draft"))
        counted(session)
    assert told == []


def test_arguments_of_different_types_are_different_calls(small):
    """1, True, 1.0 and "1" are equal or look alike, and are not the same question."""

    @small.cache.query(tags="bins")
    def kind_of(value: object) -> str:
        return type(value).__name__

    assert [kind_of(value) for value in (1, True, 1.0, "1", b"1", None)] == [
        "int",
        "bool",
        "float",
        "str",
        "bytes",
        "NoneType",
    ]
    assert [kind_of(value) for value in (1, True, 1.0, "1", b"1", None)] == [
        "int",
        "bool",
        "float",
        "str",
        "bytes",
        "NoneType",
    ]
    assert small.cache.stats().hits == 6


def test_however_arguments_are_passed_it_is_one_call(small):
    """By position, by name, or left to the default."""
    with Session(small.engine) as session:
        keys = {
            small.cache.key_of(small.sync["counts"], session),
            small.cache.key_of(small.sync["counts"], session, None),
            small.cache.key_of(small.sync["counts"], session=session, kind=None),
        }

    assert len(keys) == 1


@pytest.mark.parametrize("before", [{"mode": "ttl"}, {"tags": only("names:none")}])
def test_entries_with_fewer_tags_are_not_those_of_a_release_that_finds_them(small, before):
    """One that stops to say `only`, or goes from `ttl` to `strict`: no commit would end what the old one has kept."""
    store = MemoryStore()

    def deployed(mode: str = "strict", tags: Any = ()) -> tuple[Cache, Any]:
        cache = Cache("release", Policy(mode=mode))
        cache.connect(store)
        cache.watch(small.engine, small.Base.metadata)

        @cache.query(tags=tags)
        def count(session: Session) -> int:
            return session.scalar(select(func.count()).select_from(small.Bin)) or 0

        return cache, count

    for how, found in ((before, 2), ({}, 3)):
        cache, count = deployed(**how)
        with Session(small.engine) as session:
            assert count(session) == found
            session.add(small.Bin(name="three", kind="paper"))
            session.commit()
        cache.close()


def test_another_database_has_other_entries(small, tmp_path):
    """A session of another engine never gets the first one's results."""
    other = create_engine(f"sqlite:///{tmp_path}/other.sqlite3")
    small.Base.metadata.create_all(other)
    with Session(small.engine) as session:
        assert small.sync["counts"](session) == {"glass": 2}

    unwatched = re.escape(f"counts is not cached here: nobody watches {other!r}. Call cache.watch(…) for it, too.")
    with Session(other) as session:
        with pytest.warns(NotCached, match=unwatched):
            assert small.sync["counts"](session) == {}
        assert small.sync["counts"](session) == {}
    assert small.cache.stats().bypasses == {Reason.NOT_WATCHED: 2}

    small.cache.watch(other)
    with Session(other) as session:
        assert small.sync["counts"](session) == {}
    with Session(small.engine) as session:
        assert small.sync["counts"](session) == {"glass": 2}
    assert small.cache.stats().hits == 1
    other.dispose()


def test_another_schema_has_other_entries(small):
    """A map of schema names is part of where a session reads."""
    mapped = small.engine.execution_options(schema_translate_map={None: "main"})
    with Session(small.engine) as session, Session(mapped) as elsewhere:
        keys = {small.cache.key_of(small.sync["counts"], each) for each in (session, elsewhere)}

    assert len(keys) == 2


def test_methods_of_every_kind_are_cached(small):
    """A subclass that inherits a class method has entries of its own."""
    cache = small.cache

    class Board:
        def __init__(self, key: int) -> None:
            self.key = key

        def cache_identity(self) -> int:
            return self.key

        @cache.query(tags="bins")
        def own(self, add: int) -> int:
            return self.key + add

        @classmethod
        @cache.query(tags="bins")
        def kind(cls) -> str:
            return cls.__name__

        @staticmethod
        @cache.query(tags="bins")
        def free(value: int) -> int:
            return value

        @cache.query(tags="bins")
        @staticmethod
        def inside(value: int) -> int:
            return -value

    class Sub(Board):
        pass

    for _ in range(2):
        assert (Board(1).own(1), Board(2).own(1), Board.kind(), Sub.kind()) == (2, 3, "Board", "Sub")
        assert (Board.free(1), Board.inside(1)) == (1, -1)
    assert (cache.stats().fills, cache.stats().hits) == (6, 6)


def test_what_is_returned_may_be_changed(kit, calling):
    """Each caller has a value of its own."""
    calling(kit, "counts")["glass"] = 99
    calling(kit, "counts")["glass"] = 99

    assert calling(kit, "counts") == {"glass": 2}


def test_an_exception_is_not_remembered(small):
    """The next call tries again."""

    @small.cache.query(tags="bins")
    def fails(session: Session) -> int:
        small.loads["fails"] += 1
        raise LookupError("no")

    with Session(small.engine) as session:
        for _ in range(2):
            with pytest.raises(LookupError):
                fails(session)

    assert small.loads["fails"] == 2


def test_an_entry_expires(tmp_path, small):
    """After its ttl it is loaded again."""
    from perfkit.cache import MemoryStore

    class Turned:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def wall_ms(self) -> int:
            return int(self.now * 1000)

    clock = Turned()
    cache = Cache("turned", Policy(ttl=10))

    @cache.query(tags="bins")
    def one() -> int:
        small.loads["one"] += 1
        return 1

    cache.connect(MemoryStore(clock=clock))
    cache.watch(small.engine, small.Base.metadata)
    one()
    clock.now = 9.9
    one()
    assert small.loads["one"] == 1

    clock.now = 10.1
    one()

    assert small.loads["one"] == 2
    cache.close()


def test_a_version_makes_other_keys(small):
    """So does another body, or another shape of the result."""

    def declared(version, body):
        scope: dict[str, Any] = {}
        exec(f"def f() -> {body[0]}:\n    return {body[1]}", scope)  # noqa: S102
        return small.cache.key_of(small.cache.query(tags="bins", version=version)(scope["f"]))

    keys = [declared(0, ("int", "1")), declared(1, ("int", "1")), declared(0, ("int", "2")), declared(0, ("str", "1"))]

    assert len(set(keys)) == 4
    assert declared(0, ("int", "1")) == keys[0]


def test_refresh_drop_and_off(kit, calling):
    """What one can do with one entry."""
    name_of = kit.sync["name_of"]
    with Session(kit.engine) as session:
        name_of(session, 1)
        assert kit.cache.refresh(name_of, session, 1) == "one"
        assert kit.loads["name_of"] == 2
        with kit.cache.off():
            name_of(session, 1)
        assert kit.loads["name_of"] == 3
        assert kit.cache.drop(name_of, session, 1) is True
        assert kit.cache.drop(name_of, session, 1) is False
        name_of(session, 1)
        assert kit.loads["name_of"] == 4

    async def of_async() -> None:
        async with AsyncSession(kit.async_engine) as session:
            aname_of = kit.suspending["name_of"]
            assert await kit.cache.refresh(aname_of, session, 1) == "one"
            assert await kit.cache.drop(aname_of, session, 1) is True

    kit.runner.run(of_async())


def test_touch_joins_the_transaction(small):
    """Published if it commits, forgotten if it rolls back."""
    with Session(small.engine) as session:
        small.sync["counts"](session)
    with Session(small.engine) as session:
        small.cache.touch(session, small.Bin)
        session.execute(select(1))
        session.rollback()
    with Session(small.engine) as session:
        small.sync["counts"](session)
    assert small.loads["counts"] == 1

    with Session(small.engine) as session:
        session.execute(select(1))
        small.cache.touch(session, "bins")
        session.commit()

    with Session(small.engine) as session:
        small.sync["counts"](session)
    assert small.loads["counts"] == 2


def test_touch_of_a_transaction_without_sql_warns(small):
    """There is no commit to join."""
    with Session(small.engine) as session:
        small.cache.touch(session, "bins")
        session.begin()

        with pytest.warns(RuntimeWarning, match="use bump"):
            session.commit()


def test_a_transaction_around_the_session_counts_too(small):
    """A test that rolls everything back gives sessions a connection; what they commit is not committed."""
    with Session(small.engine) as session:
        assert small.sync["name_of"](session, 1) == "one"

    with small.engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(update(small.Bin).where(small.Bin.id == 1).values(name="draft"))
            session.commit()
            assert small.sync["name_of"](session, 1) == "draft"
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            assert small.sync["name_of"](session, 1) == "draft"
        outer.rollback()

    with Session(small.engine) as session:
        assert small.sync["name_of"](session, 1) == "one"
    assert small.loads["name_of"] == 3


def test_a_name_of_ones_own_changes_by_hand(kit, calling):
    """Only touch and bump know it."""

    @kit.cache.query(tags="board:{team}")
    def board(team: int) -> int:
        kit.loads["board"] += 1
        return team

    board(7), board(8), board(7)
    assert kit.loads["board"] == 2

    kit.cache.bump("board:7")
    board(7), board(8)
    assert kit.loads["board"] == 3

    kit.runner.run(kit.cache.abump("*"))
    board(7), board(8)
    assert kit.loads["board"] == 5


def test_results_over_the_limit_are_not_kept(small):
    """They are returned."""
    cache = Cache("limited", Policy(max_bytes=100))

    @cache.query(tags="bins")
    def long() -> str:
        return "x" * 200

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)

    assert long() == long() == "x" * 200
    assert cache.stats().unkept == {Reason.TOO_LARGE: 2}
    cache.close()


def test_without_connect_or_watch_functions_just_run(small):
    """And the totals say why."""
    cache = Cache("alone")

    @cache.query(tags="bins")
    def one() -> int:
        return 1

    assert one() == 1
    cache.connect()
    with pytest.warns(NotCached, match="watches no engine"):
        assert one() == 1
    assert cache.stats().bypasses == {Reason.NOT_CONNECTED: 1, Reason.NOT_WATCHED: 1}
    cache.close()


def test_a_forgotten_watch_is_said_once_where_the_function_stands(small):
    """Of a cache that watched and has stopped to, nothing is said."""
    cache = Cache("alone")

    @cache.query
    def one(session: Session) -> int:
        return 1

    cache.connect()
    with Session(small.engine) as session, pytest.warns(NotCached, match="'alone' is connected") as told:
        assert [one(session), one(session)] == [1, 1]
    assert [each.filename for each in told] == [__file__]
    assert "key" not in str(cache.explain(one, session))
    cache.watch(small.engine, small.Base.metadata)
    cache.unwatch(small.engine)
    assert one(session) == 1
    cache.watch(create_engine("sqlite://"))
    assert one(session) == 1
    cache.close()


def test_close_takes_every_listener_away(small):
    """The engine is as it was."""
    engine = create_engine("sqlite://")
    small.Base.metadata.create_all(engine)
    real, listeners = engine.dialect.do_commit, list(engine.dispatch.before_cursor_execute)
    cache = Cache("brief")
    cache.connect()
    cache.watch(engine)
    assert engine.dialect.do_commit != real

    cache.close()

    assert engine.dialect.do_commit == real
    assert list(engine.dispatch.before_cursor_execute) == listeners
    engine.dispose()


def test_two_caches_watch_one_engine(small):
    """Each is told of each commit."""
    other = Cache("other")

    @other.query(tags="bins")
    def count(session: Session) -> int:
        return len(session.scalars(select(small.Bin.id)).all())

    other.connect()
    other.watch(small.engine, small.Base.metadata)
    with Session(small.engine) as session:
        assert (count(session), small.sync["counts"](session)) == (2, {"glass": 2})

    small.write(lambda s: s.add(small.Bin(name="three")))

    with Session(small.engine) as session:
        assert (count(session), small.sync["counts"](session)) == (3, {"glass": 3})
    other.close()


# ---- declarations that cannot work


def test_a_misspelt_table_is_found_at_start_up(small):
    """With the nearest name."""
    cache = Cache("typo")

    @cache.query(tags="bin")
    def one() -> int:
        return 1

    cache.connect()
    with pytest.raises(UnknownTag, match="did you mean 'bins'"):
        cache.watch(small.engine, small.Base.metadata)
    cache.close()


def test_a_misspelt_table_is_found_by_hand_too(small):
    """These are for when nothing else can help."""
    with pytest.raises(UnknownTag, match="did you mean 'bins'"):
        small.cache.bump("bin")
    own = r"no table .* of your own has a colon: 'Nothing:all'"
    with Session(small.engine) as session, pytest.raises(UnknownTag, match=own):
        small.cache.touch(session, "Nothing")
    with pytest.raises(CacheDeclarationError, match="at least one"):
        small.cache.bump()


def test_a_misspelt_table_is_found_when_declared_after_watch(small):
    """Also where watch() was given no metadata."""
    cache = Cache("late")
    cache.connect()
    cache.watch(small.engine)

    with pytest.raises(UnknownTag, match="no metadata"):

        @cache.query(tags="bin")
        def one() -> int:
            return 1

    cache.close()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        (None, "give 'memory://', a URL"),
        (7, "give 'memory://', a URL"),
        ("memory", "by 'memory://'"),
        ("http://x", "give memory://, redis://"),
        ("localhost:6379", "give memory://, redis://"),
        ("redis://localhost:6379/0?foo=bar", "has no option 'foo' for redis://"),
        ("redis://localhost/cache", "'cache', and must be a number"),
        ("redis://:pass/word@localhost", "must be quoted"),
        ("unix://", "names no socket"),
        ("valkey://localhost", "has the URLs of Redis"),
        ("redis://localhost?protocol=9", "protocol must be"),
    ],
)
def test_a_place_that_cannot_be_is_found_at_start_up(to, message):
    """Not at the first read."""
    with pytest.raises(CacheDeclarationError, match=message):
        Cache("nowhere").connect(to)


@pytest.mark.parametrize("timeout_s", [0, -1, True, None, "1", timedelta(seconds=1), float("inf")])
def test_a_time_that_no_command_can_take_is_found_there_too(timeout_s):
    """redis-py would find it at the first read, or wait for ever."""
    with pytest.raises(CacheDeclarationError, match="a number of seconds"):
        Cache("nowhere").connect("redis://localhost", timeout_s=timeout_s)


@pytest.mark.parametrize("namespace", ["", "a b", "a*", "{a}", None, 7, Policy()])
def test_a_namespace_that_cannot_begin_a_key_is_refused(namespace):
    """Also what is no text at all."""
    with pytest.raises(CacheDeclarationError, match="give a short name"):
        Cache(namespace)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda cache, session: cache.touch(session), "name at least one tag"),
        (lambda cache, session: cache.bump(), "name at least one tag"),
        (lambda cache, session: cache.bump(""), "must begin with the name of a table"),
        (lambda cache, session: cache.listen(7), "takes a CacheEvent"),
        (lambda cache, session: cache.unwatch(7), "the Engine or AsyncEngine that is watched"),
        (lambda cache, session: cache.get(session.get_bind(), Bin, 1), "is the first argument, and not Engine"),
        (lambda cache, session: cache.get_many(None, Bin, [1]), "is the first argument, and not None"),
    ],
)
def test_what_is_asked_of_a_cache_in_vain_is_refused(small, act, message):
    """In our words, and not by what it does to the code below."""
    with Session(small.engine) as session, pytest.raises(CacheDeclarationError, match=message):
        act(small.cache, session)


def test_a_bump_that_the_store_does_not_take_names_its_tags(tmp_path):
    """As tables, however they were given."""
    kit = Kit(Cache("down"), tmp_path / "down.sqlite3")
    kit.cache.connect("redis://127.0.0.1:1")
    kit.watch()
    with pytest.raises(StoreDown, match="did not take the bump of bins, teams#7, and will be told again"):
        kit.cache.bump(Bin, "teams#7")
    kit.close()


@pytest.mark.parametrize(
    "to",
    [
        "redi://app:hidden@localhost",
        "redis://app:hidden@localhost?timout=3",
        "redis://localhost?password=hidden&timout=3",
        "redis://:so/hidden@localhost",
        "redis://:so?hidden=@localhost",
        "app:hidden@localhost:6379",
    ],
)
def test_no_message_shows_a_password(to):
    """They end up in logs."""
    with pytest.raises(CacheDeclarationError, match="cannot connect") as refused:
        Cache("nowhere").connect(to)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("bins#{bin}", "names the parameter 'bin'"),
        ("bins#{key.id}", "only be the name of a parameter"),
        ("bins#x{key}", "key's columns alone"),
        ("{key}", "must begin with the name"),
        (only(), "name what the result depends on"),
        (int, "give a mapped class"),
    ],
)
def test_a_tag_that_cannot_work_is_found_at_import(tags, message):
    """Before anybody calls."""
    cache = Cache("wrong")

    with pytest.raises(CacheDeclarationError, match=message):

        @cache.query(tags=tags)
        def one(key: int) -> int:
            return 1


def test_an_argument_without_a_text_is_refused(small):
    """Rather than told apart by its address."""

    @small.cache.query(tags="bins")
    def one(thing: object) -> int:
        return 1

    with pytest.raises(UnkeyableArgument, match="thing=<object"):
        one(object())


def test_a_result_that_cannot_be_kept_is_refused_at_the_first_call(small):
    """An entity says to return values."""

    @small.cache.query(tags="bins")
    def entity(session: Session) -> Any:
        return session.get(small.Bin, 1)

    with Session(small.engine) as session, pytest.raises(Unpackable, match=r"entity: result, of type .*Bin") as refused:
        entity(session)
    assert (refused.value.path, refused.value.found) == ("result", small.Bin)


def test_an_argument_that_no_key_can_be_made_of_says_what_to_pass_instead(small):
    """What makes sessions, and the object that a method stands in."""

    class Store:
        @small.cache.query
        def count(self, session: Session) -> int:
            return 1

    @small.cache.query
    def count(session: Session) -> int:
        return 1

    for maker in (small.engine, small.async_engine, sessionmaker(small.engine), async_sessionmaker(small.async_engine)):
        with pytest.raises(UnkeyableArgument, match="Pass a session or a connection that it has made"):
            count(maker)
    with Session(small.engine) as session, pytest.raises(UnkeyableArgument, match="a @classmethod that is given the"):
        Store().count(session)


def test_an_entity_is_no_argument_whatever_identity_it_gives(small):
    """What it has loaded may be older than the result: its new name never came into a result that was kept."""

    class Base(DeclarativeBase):
        pass

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

        def cache_identity(self) -> int:
            return self.id

        @small.cache.query()
        def label(self, session: Session) -> str:
            return self.name

    @small.cache.query()
    def label(session: Session, owner: Owner) -> str:
        return owner.name

    with Session(small.engine) as session:
        with pytest.raises(UnkeyableArgument, match=r"an entity: .*Pass its primary key, and load it in the func"):
            label(session, Owner(id=1, name="old"))
        with pytest.raises(UnkeyableArgument, match="which may be a @classmethod that is given the session"):
            Owner(id=1, name="old").label(session)


@pytest.mark.parametrize("make", [lambda: iter(()), lambda: 1])
def test_only_functions_with_one_result_are_cached(make):
    """A generator is used up by its first reader."""
    cache = Cache("wrong")

    def generator():
        yield 1

    with pytest.raises(CacheDeclarationError):
        cache.query(tags="bins")(generator)
    with pytest.raises(CacheDeclarationError, match="decorate a function"):
        cache.query(tags="bins")(make())


# ---- modes, and stores that fail


def test_committed_mode_bumps_without_a_mark(tmp_path, small):
    """One round trip less; seen by the next read all the same."""
    cache = Cache("committed", Policy(mode="committed"))

    @cache.query(tags="bins")
    def count(session: Session) -> int:
        return len(session.scalars(select(small.Bin.id)).all())

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)
    with Session(small.engine) as session:
        count(session)

    small.write(lambda s: s.add(small.Bin(name="three")))

    with Session(small.engine) as session:
        assert count(session) == 3
    assert (cache.stats().marked_commits, cache.stats().unmarked_commits) == (0, 1)
    cache.close()


def test_ttl_mode_serves_what_it_has(small):
    """Whatever is written."""
    cache = Cache("ttl", Policy(mode="ttl", ttl=60))

    @cache.query(tags="bins")
    def count(session: Session) -> int:
        return len(session.scalars(select(small.Bin.id)).all())

    cache.connect()
    cache.watch(small.engine, small.Base.metadata)
    with Session(small.engine) as session:
        count(session)
    small.write(lambda s: s.add(small.Bin(name="three")))

    with Session(small.engine) as session:
        assert count(session) == 2
    cache.close()


UNREACHABLE = "redis://127.0.0.1:1/0"


def test_a_store_that_is_down_costs_nobody_an_answer(tmp_path, calling, small):
    """Reads come from the database, writes go on, and the totals tell."""
    from tests.cache.conftest import Kit

    kit = Kit(Cache("down"), tmp_path / "down.sqlite3")
    kit.cache.connect(UNREACHABLE)
    kit.watch()

    assert calling(kit, "counts") == {"glass": 2}
    kit.write(lambda s: s.add(kit.Bin(name="three")))
    assert calling(kit, "counts") == {"glass": 3}

    stats = kit.cache.stats()
    assert (stats.hits, stats.unmarked_commits, stats.unbumped_commits) == (0, 1, 1)
    assert set(stats.unkept) <= {Reason.STORE_DOWN, Reason.UNSETTLED}
    with pytest.raises(StoreDown):
        kit.cache.ping()
    kit.close()


def test_veto_refuses_a_commit_that_cannot_be_marked(tmp_path):
    """Nothing of it is in the database."""
    from tests.cache.conftest import Kit

    kit = Kit(Cache("veto", Policy(on_mark_failure="veto")), tmp_path / "veto.sqlite3")
    kit.cache.connect(UNREACHABLE)
    kit.watch()

    with pytest.raises(CommitRefused, match="nothing was"):
        kit.write(lambda s: s.add(kit.Bin(name="three")))

    with Session(kit.engine) as session:
        assert len(session.scalars(select(kit.Bin)).all()) == 2
    assert (kit.cache.stats().refused_commits, kit.cache.stats().unmarked_commits) == (1, 0)
    kit.close()


def test_a_touch_before_the_first_statement_joins_the_transaction(small):
    """A connection that was just opened has begun nothing yet."""
    with Session(small.engine) as session:
        small.sync["counts"](session)

    with small.engine.connect() as connection:
        small.cache.touch(connection, small.Bin)
        connection.execute(select(1))
        connection.commit()

    with Session(small.engine) as session:
        small.sync["counts"](session)
    assert small.loads["counts"] == 2


def test_an_engine_made_of_the_watched_one_is_watched(store_url, tmp_path):
    """And the watched one, where it was made of another: they share their dialect."""
    kit = Kit(Cache("test"), tmp_path / "test.sqlite3")
    kit.cache.connect(store_url, timeout_s=10)
    kit.cache.watch(kit.engine.execution_options(made="of it"), kit.Base.metadata)
    with Session(kit.engine) as session:
        assert kit.sync["name_of"](session, 1) == "one"

    kit.rename(1, "uno")

    with Session(kit.engine) as session:
        assert kit.sync["name_of"](session, 1) == "uno"
    kit.close()


@pytest.mark.parametrize("kept", [True, False])
def test_a_savepoint_that_opens_a_transaction_commits_nothing_by_itself(small, kept):
    """In SQLite it would: a release that nobody hears of, and a rollback that undoes nothing."""
    with Session(small.engine) as reader:
        assert small.sync["counts"](reader) == {"glass": 2}
    with Session(small.engine) as session:
        with session.begin_nested():
            session.add(small.Bin(name="three"))
        with Session(small.engine) as reader:
            assert small.sync["counts"](reader) == {"glass": 2}
        (session.commit if kept else session.rollback)()

    with Session(small.engine) as reader:
        assert small.sync["counts"](reader) == {"glass": 3 if kept else 2}
        assert len(reader.scalars(select(small.Bin)).all()) == (3 if kept else 2)


def test_without_options_no_brackets_are_needed(small):
    """What everybody tries first."""
    calls = []

    @small.cache.query
    def names(session: Session) -> list[str]:
        calls.append(1)
        return list(session.scalars(select(small.Bin.name)))

    with Session(small.engine) as session:
        assert names(session) == names(session) != []
    assert len(calls) == 1


@pytest.mark.parametrize("given", ["bins", None, 7])
def test_what_is_no_engine_is_not_watched(small, given):
    """Said by name, and nothing is half watched."""
    with pytest.raises(CacheDeclarationError, match=rf"watch\({given!r}\): give the Engine"):
        small.cache.watch(given, small.Base.metadata)


def test_what_is_no_metadata_is_not_watched(small):
    """The declarative base has it as an attribute, and is none."""
    engine = create_engine("sqlite://")
    with pytest.raises(CacheDeclarationError, match=r"give the MetaData of your tables, as Base\.metadata"):
        small.cache.watch(engine, small.Base)
    small.cache.watch(engine, small.Base.metadata)


@pytest.mark.parametrize("given", [60, {"ttl": 60}])
def test_what_is_no_policy_is_refused(given):
    """When the cache is made."""
    with pytest.raises(CacheDeclarationError, match="give a Policy"):
        Cache("plain", given)


def test_a_session_whose_connection_broke_is_rolled_back_as_without_a_cache(small):
    """What it had noted of the transaction went with the connection."""
    with Session(small.engine) as session:
        session.add(small.Bin(name="never stored"))
        session.flush()
        session.connection().invalidate()

        session.rollback()

        assert session.scalar(select(1)) == 1
        assert small.sync["counts"](session) == {"glass": 2}


def test_a_statement_that_is_cancelled_ends_with_the_cancellation(small):
    """SQLAlchemy gives the connection up then, and the error that a listener raised hid what had happened."""
    forever = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) SELECT max(x) FROM n")

    async def work(has_begun: asyncio.Event) -> None:
        async with AsyncSession(small.async_engine) as session:
            await session.connection()
            has_begun.set()
            await session.execute(forever)

    async def cancel() -> None:
        has_begun = asyncio.Event()
        task = asyncio.create_task(work(has_begun))
        await has_begun.wait()
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        small.runner.run(cancel())


class Interrupted(MemoryStore):
    """Somebody presses Ctrl-C, or cancels the task, while a bump is on its way."""

    interrupts = False

    async def bump(self, cells: Sequence[bytes], writer: bytes) -> None:
        await super().bump(cells, writer)
        if self.interrupts:
            raise KeyboardInterrupt


@pytest.mark.parametrize("statement_alone", [False, True])
def test_what_interrupts_one_cache_after_a_commit_keeps_no_other_from_hearing_of_it(small, statement_alone):
    """The second of two on one engine, which marks nothing, would have answered from before it until its ttl."""
    store = Interrupted()
    first, second = small.cache, Cache("second", Policy(mode="committed"))
    first.close()
    first.connect(store)
    first.watch(small.engine, small.Base.metadata, database="test")
    second.connect()
    second.watch(small.engine, small.Base.metadata, database="test")

    @second.query
    def names(session: Session) -> list[str]:
        return list(session.scalars(select(small.Bin.name).order_by(small.Bin.id)))

    with Session(small.engine) as session:
        assert names(session) == ["one", "two"]
    level = "AUTOCOMMIT" if statement_alone else "SERIALIZABLE"

    def rename() -> None:
        with small.engine.connect().execution_options(isolation_level=level) as connection:
            connection.execute(update(small.Bin).where(small.Bin.id == 1).values(name="new"))
            connection.commit()

    store.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        rename()

    with Session(small.engine) as session:
        assert names(session) == ["new", "two"]
    second.close()
