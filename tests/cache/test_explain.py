"""Why a call is answered as it is: explain, peek, and what a decorator is worth."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from perfkit import Cache
from perfkit.cache import FunctionStats, Reason
from perfkit.cache.bumps import MAX_REMEMBERED, Bumps
from perfkit.errors import CacheDeclarationError, Unpackable
from tests.cache.conftest import Bin


@pytest.fixture
def count(small):
    @small.cache.query()
    def count(session: Session, kind: str) -> int | None:
        return session.scalar(select(func.count()).where(Bin.kind == kind))

    return count


def explain(kit, function, *args):
    with Session(kit.engine) as session:
        return kit.cache.explain(function, session, *args)


def call(kit, function, *args):
    with Session(kit.engine) as session:
        return function(session, *args)


def test_each_tag_names_the_statement_and_the_line_that_read_it(small, count):
    """Also where nothing is kept yet."""
    told = explain(small, count, "glass")

    assert (told.verdict, told.age_s, told.bytes) == ("not there", None, None)
    (tag,) = [each for each in told.tags if each.tag == "bins"]
    assert tag.state == "new"
    assert "FROM bins" in tag.statements[0].sql
    assert tag.statements[0].where.startswith(__file__)
    assert call(small, count, "glass") == 2
    assert small.cache.stats().fills == 1, "explaining keeps and counts nothing"


def test_what_another_cached_function_read_is_named_by_that_function(small, count):
    """It was answered by the cache, so that no statement was seen for these tags."""

    @small.cache.query()
    def twice(session: Session, kind: str) -> int:
        return 2 * (count(session, kind) or 0)

    call(small, count, "glass")
    told = explain(small, twice, "glass")

    (tag,) = [each for each in told.tags if each.tag == "bins"]
    assert [each.sql for each in tag.statements] == [f"(kept by {small.cache.stats_of(count).name})"]
    assert tag.statements[0].where.startswith(f"{__file__}:")
    assert "(kept by " in str(told)


def test_an_entry_is_told_from_one_that_a_commit_has_changed(small, count):
    """With the line of the commit."""
    call(small, count, "glass")
    before = explain(small, count, "glass")
    small.rename(1, "uno")
    after = explain(small, count, "glass")

    assert (before.verdict, after.verdict) == ("valid", "out of date")
    assert before.bytes > 0
    assert before.age_s >= 0
    assert before.load_ms > 0
    assert before.ttl_s == 60
    states = {each.tag: each.state for each in after.tags}
    assert states == {"*": "current", "bins": "changed"}
    (changed,) = [each for each in after.tags if each.state == "changed"]
    assert "conftest.py" in changed.bumped.where
    text = str(after)
    assert "depends on bins: changed" in text
    assert "last bumped by" in text
    assert "depends on *" not in text


def test_versions_are_told_of_the_entry_and_of_the_store(small, count):
    """The same in every process, so that who looks in two of them can compare."""
    new = {each.tag: each for each in explain(small, count, "glass").tags}
    call(small, count, "glass")
    before = {each.tag: each for each in explain(small, count, "glass").tags}
    small.rename(1, "uno")
    after = {each.tag: each for each in explain(small, count, "glass").tags}

    assert (new["bins"].version, new["bins"].now, new["bins"].versions) == (None, None, "")
    assert before["bins"].version == before["bins"].now == after["bins"].version
    assert after["bins"].now != after["bins"].version
    said = f"depends on bins: changed {after['bins'].version} → {after['bins'].now}"
    assert said in str(explain(small, count, "glass"))


def test_the_lines_of_async_code_are_found_too(small):
    """SQLAlchemy runs its statements and commits in greenlets, whose frames end there."""

    @small.cache.query()
    async def count(session: AsyncSession) -> int | None:
        return await session.scalar(select(func.count()).select_from(Bin))

    async def told():
        async with AsyncSession(small.async_engine) as session:
            await count(session)
            session.add(Bin(name="three"))
            await session.commit()
            return await small.cache.explain(count, session)

    (tag,) = [each for each in small.runner.run(told()).tags if each.tag == "bins"]
    assert tag.statements[0].where.startswith(__file__)
    assert tag.bumped.where.startswith(__file__)


def test_sql_that_makes_everything_out_of_date_is_told_once_for_each_line(small, count, caplog):
    """With the line and the SQL, and counted each time: else nobody would know why there are no hits."""
    for _ in range(2):
        call(small, count, "glass")
        small.write(lambda session: session.execute(text("UPDATE OR IGNORE bins\nSET kind = kind")))
    small.write(lambda session: session.execute(text("CREATE TABLE lids (id INTEGER)")))
    small.rename(1, "uno")

    (told,) = [record.getMessage() for record in caplog.records]
    assert "conftest.py" in told
    assert "UPDATE OR IGNORE bins SET kind = kind" in told
    assert small.cache.stats().unread_commits == 2
    assert small.cache.stats().marked_commits == 4


def test_a_bump_by_hand_is_named_too(small, count):
    """By its own line."""
    call(small, count, "glass")
    small.cache.bump("bins")
    (changed,) = [each for each in explain(small, count, "glass").tags if each.state == "changed"]
    assert changed.bumped.where.startswith(__file__)


def test_a_call_that_the_cache_does_not_answer_says_why(small, count):
    """Own writes; off; results that cannot be kept."""
    with Session(small.engine) as session:
        session.add(Bin(name="three"))
        session.flush()
        told = small.cache.explain(count, session, "glass")
        assert (told.verdict, told.reason) == ("bypassed", Reason.OWN_WRITES)
    with small.cache.off():
        assert explain(small, count, "glass").reason is Reason.OFF

    @small.cache.query()
    def now(session: Session) -> str | None:
        return session.scalar(select(func.current_timestamp()))

    told = explain(small, now)
    assert told.reason is Reason.VOLATILE
    assert "CURRENT_TIMESTAMP" in str(told)


def test_a_result_that_is_not_kept_says_why(small):
    """Too large, unwanted, of a class that nobody named: as the call finds, which keeps nothing either."""

    @small.cache.query(max_bytes=100)
    def large(session: Session) -> str:
        return f"{session.scalar(select(func.count()).select_from(Bin))}".zfill(200)

    @small.cache.query(keep_if=bool)
    def unwanted(session: Session) -> list[int]:
        return list(session.scalars(select(Bin.id).where(Bin.name == "nobody")))

    @small.cache.query()
    def strange(session: Session) -> object:
        session.scalar(select(func.count()).select_from(Bin))
        return object()

    for function, reason in ((large, Reason.TOO_LARGE), (unwanted, Reason.UNWANTED)):
        call(small, function)
        told = explain(small, function)
        assert (told.verdict, told.reason) == ("not there", reason)
        assert small.cache.stats_of(function).unkept == {reason: 1}
    assert "the packed result has 203 bytes, and max_bytes is 100 (TOO_LARGE)" in str(explain(small, large))
    with pytest.raises(Unpackable, match="object, cannot be kept"):
        explain(small, strange)


def test_a_function_in_shadow_is_said_to_be(small):
    """With what is kept of it, which answers nobody."""

    @small.cache.query(stage="shadow")
    def shadowed(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    call(small, shadowed)
    told = explain(small, shadowed)
    assert (told.verdict, told.reason) == ("bypassed", Reason.SHADOW)
    assert [(each.tag, each.state) for each in told.tags] == [("*", "current"), ("bins", "current")]
    assert told.bytes is not None


def test_the_engine_that_nobody_watches_is_named(small, count, tmp_path):
    """Of several engines it is the one that was forgotten."""
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with Session(other) as session:
        told = small.cache.explain(count, session, "glass")
    assert told.reason is Reason.NOT_WATCHED
    assert f"nobody watches {other!r}: call watch() for it (NOT_WATCHED)" in str(told)
    with Session() as session:
        assert "cannot say which that is (NOT_WATCHED)" in str(small.cache.explain(count, session, "glass"))
    other.dispose()


def test_a_key_that_is_asked_for_before_the_cache_is_connected_says_so():
    """And not that nobody watches."""
    cache = Cache("early")

    @cache.query()
    def count(session: Session) -> int | None:
        return session.scalar(select(func.count()).select_from(Bin))

    with pytest.raises(CacheDeclarationError, match=r"count has no key here: the cache was not connected"):
        cache.key_of(count, Session())


def test_peek_gives_what_is_valid_and_loads_nothing(small, count):
    """None after a commit that changed it, and where nothing is kept."""
    with Session(small.engine) as session:
        assert small.cache.peek(count, session, "glass") is None
    call(small, count, "glass")
    with Session(small.engine) as session:
        found = small.cache.peek(count, session, "glass")
    assert (found.value, set(found.tags)) == (2, {"*", "bins"})
    small.rename(1, "uno")
    with Session(small.engine) as session:
        assert small.cache.peek(count, session, "glass") is None
    assert (small.cache.stats().hits, small.cache.stats().fills) == (0, 1)


def test_both_are_awaited_of_an_async_function(kit):
    """On every store."""

    async def both():
        async with AsyncSession(kit.async_engine) as session:
            await kit.suspending["counts"](session)
            await session.rollback()
            found = await kit.cache.peek(kit.suspending["counts"], session)
            await session.rollback()
            return found, await kit.cache.explain(kit.suspending["counts"], session)

    found, told = kit.runner.run(both())
    assert found.value == {"glass": 2}
    assert told.verdict == "valid"
    assert {each.state for each in told.tags} == {"current"}


def test_functions_are_counted_one_by_one(small, count):
    """And the totals are their sum."""

    @small.cache.query()
    def names(session: Session) -> list[str]:
        return list(session.scalars(select(Bin.name)))

    for _ in range(3):
        call(small, count, "glass")
    call(small, names)

    by_name = {each.name.rpartition(".")[2]: each for each in small.cache.stats().functions}
    assert (by_name["count"].hits, by_name["count"].fills) == (2, 1)
    assert (by_name["names"].hits, by_name["names"].fills) == (0, 1)
    assert by_name["count"].load_ms > 0
    assert small.cache.stats().calls == 4


def made(**given) -> FunctionStats:
    nothing = {
        "shared": 0,
        "stale": 0,
        "rescued": 0,
        "refreshed": 0,
        "verified": 0,
        "violations": 0,
        "bypasses": {},
        "unkept": {},
        "odd": {},
    }
    return FunctionStats(**{"name": "f", "hits": 0, "fills": 0, "load_ms": 1.0, "saved_s": 1.0, **nothing, **given})


@pytest.mark.parametrize(
    ("stats", "advice"),
    [
        (made(hits=900, fills=100), ""),
        (made(hits=1, fills=10, saved_s=-1.0), ""),
        (made(hits=100, fills=900, saved_s=-0.25), "10% of its calls are hits, and it has cost 0.25 s more"),
        (made(hits=900, fills=100, saved_s=-0.25, load_ms=0.1), "loading takes 0.1 ms, and asking the cache"),
        (made(fills=100, unkept={Reason.TOO_LARGE: 100}), "no result was ever kept, because the packed result"),
    ],
)
def test_a_decorator_that_does_not_pay_is_named(stats, advice):
    """Not before it has been called often enough to tell."""
    assert advice in stats.advice
    assert bool(advice) == bool(stats.advice)


def test_only_the_latest_bumps_are_remembered():
    """A process that writes for weeks must not grow."""
    bumps = Bumps()
    for i in range(MAX_REMEMBERED + 1):
        bumps.note([f"bins#{i}"], f"a.py:{i}")
    assert bumps.latest("bins#0") is None
    assert bumps.latest("bins#1").where == "a.py:1"
    bumps.note([f"bins#{i}" for i in range(MAX_REMEMBERED + 1)], "b.py:1")
    assert bumps.latest("bins#0").where == bumps.latest("bins#1").where == "b.py:1"
