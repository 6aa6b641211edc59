"""Programs as people write them: what is wrong in them is found, its fix ends it, and nothing else is found."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from perfkit.loading import Finding, detect
from tests.loading import cases_async, cases_columns, cases_lazy, cases_loops, cases_more, cases_quiet
from tests.loading.cases import NAMES, Case, Fix, Paste
from tests.loading.models import Base, fill

CASES = [*cases_lazy.CASES, *cases_columns.CASES, *cases_loops.CASES, *cases_quiet.CASES, *cases_more.CASES]
AWAITED = cases_async.CASES
SQLITE_ONLY = (
    *("pragmas", "the_catalog_by_hand", "sql_for_the_driver"),
    *("pages_for_the_driver", "raw_cursors", "a_statement_that_fails"),
)
ON_POSTGRESQL = [case for case in CASES if case.name not in SQLITE_ONLY]


def wrong(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.kind is not None]


def right(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.kind is None]


def named(case: Case) -> str:
    return case.name


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/loading.sqlite3")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        await session.run_sync(fill)
    yield engine
    await engine.dispose()


def run(case: Case, engine, fix: Fix) -> tuple[list[Finding], object]:
    opened = eval(fix.text, {**NAMES, "engine": engine}) if fix.text.startswith("Session(") else Session(engine)
    with opened as session, detect() as window:
        result = case.run(session, fix)
    return window.findings, result


async def arun(case: Case, engine, fix: Fix) -> tuple[list[Finding], object]:
    async with AsyncSession(engine) as session:
        with detect() as window:
            result = await case.run(session, fix)
    return window.findings, result


def wanted(case: Case, findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.kind is case.kind and each.path == case.path]


def the_finding(case: Case, findings: list[Finding]) -> Finding:
    found = wanted(case, findings)
    if len(found) != 1:
        pytest.fail("\n".join(map(str, findings)) or "nothing found")
    assert found[0].site is not None
    assert "tests/loading/" in found[0].site.file
    return found[0]


@pytest.mark.parametrize("case", wrong(CASES), ids=named)
def test_what_is_wrong_is_found_and_its_fix_ends_it(case: Case, engine):
    """Kind and path are as expected; with the fix pasted, the finding is gone."""
    findings, result = run(case, engine, Fix())

    finding = the_finding(case, findings)
    if case.paste is Paste.STATEMENT:
        expect_the_statement_to_replace_the_loop(finding, result, engine)
    elif case.paste in (Paste.COMPILES, Paste.DECORATOR):
        compile(f"statement{finding.fix}" if finding.fix.startswith(".") else finding.fix, "fix", "exec")
    else:
        afterwards, _ = run(case, engine, Fix(finding.fix))
        assert wanted(case, afterwards) == []


@pytest.mark.parametrize("case", right(CASES), ids=named)
def test_what_is_as_it_should_be_is_left_alone(case: Case, engine):
    """Nothing is found."""
    findings, _ = run(case, engine, Fix())

    assert list(map(str, findings)) == []


@pytest.mark.parametrize("case", wrong(AWAITED), ids=named)
async def test_what_is_awaited_is_found_too(case: Case, async_engine):
    """Through the greenlet: with the application's line, and a fix that ends it."""
    findings, result = await arun(case, async_engine, Fix())

    finding = the_finding(case, findings)
    if case.paste is Paste.STATEMENT:
        async with async_engine.connect() as connection:
            await connection.run_sync(lambda inner: expect_the_statement_to_replace_the_loop(finding, result, inner))
    elif case.paste is Paste.OPTIONS:
        afterwards, _ = await arun(case, async_engine, Fix(finding.fix))
        assert wanted(case, afterwards) == []


@pytest.mark.parametrize("case", right(AWAITED), ids=named)
async def test_what_is_awaited_as_it_should_be_is_left_alone(case: Case, async_engine):
    """Nothing is found."""
    findings, _ = await arun(case, async_engine, Fix())

    assert list(map(str, findings)) == []


def test_on_postgresql_the_same_is_found(pg_url):
    """Every program in a row: what was missed, what was too much."""
    engine = create_engine(pg_url.replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)

    found = {case.name: run(case, engine, Fix())[0] for case in ON_POSTGRESQL}
    engine.dispose()

    missed = [case.name for case in wrong(ON_POSTGRESQL) if len(wanted(case, found[case.name])) != 1]
    false = {case.name: list(map(str, found[case.name])) for case in right(ON_POSTGRESQL) if found[case.name]}
    assert (missed, false) == ([], {})


def test_precision_and_recall_of_the_corpus_are_one(engine):
    """A program is counted as found if it is found with the right kind and path."""
    found = {case: run(case, engine, Fix())[0] for case in CASES}

    true = sum(bool(wanted(case, found[case])) for case in wrong(CASES))
    false = sum(bool(found[case]) for case in right(CASES))

    assert len(CASES) + len(AWAITED) >= 110
    assert (true / (true + false), true / len(wrong(CASES))) == (1, 1)


def expect_the_statement_to_replace_the_loop(finding: Finding, result, bind) -> None:
    """One statement gives all that the loop gave."""
    ids, expected = result
    with Session(bind) as session, detect() as window:
        statement = eval(finding.fix, {**NAMES, "ids": ids})
        found = {value for row in session.execute(statement) for value in row}
    assert [each for each in window.findings if each.kind is finding.kind] == []
    assert {*expected} <= {getattr(value, "id", value) for value in found}
