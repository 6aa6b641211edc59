"""Programs by somebody who had not read the rules: see judge.py."""

from __future__ import annotations

import inspect
from functools import cache

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from perfkit.loading import detect
from tests.loading.fresh import awaited, columns, later, lazy, loops, postgres, quiet, shelves, shop, tasks, views
from tests.loading.fresh.judge import PROGRAMS, compare, pasted, trouble_of

MODULES = (awaited, columns, later, lazy, loops, postgres, quiet, tasks, views)  # each has filled PROGRAMS
ON_POSTGRES = [each for each in PROGRAMS.values() if each.name.startswith("postgres.")]
AWAITED = [each for each in PROGRAMS.values() if inspect.iscoroutinefunction(each.run)]
BLOCKING = [each for each in PROGRAMS.values() if each not in (*AWAITED, *ON_POSTGRES)]


def watched(engine, run):
    with Session(engine) as session, detect() as window:
        kept = run(session)
        del kept
    return window.findings


def rerun(run):
    with shelves.in_memory() as engine:
        return watched(engine, run)


@cache
def findings_of(name):
    return rerun(PROGRAMS[name].run)


async def awaited_findings(path, run):
    shelves.copy_to(path)
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with AsyncSession(engine) as session:
        with detect() as window:
            kept = await run(session)
            del kept
    await engine.dispose()
    return window.findings


@pytest.mark.parametrize("program", BLOCKING, ids=lambda each: each.name)
def test_what_there_is_to_find_is_found_and_nothing_else(program):
    """By kind and path."""
    verdict = compare(program, findings_of(program.name))

    assert (verdict.missed, verdict.extra) == ([], []), str(verdict)


@pytest.mark.parametrize("program", [each for each in BLOCKING if each.wanted], ids=lambda each: each.name)
def test_a_fix_ends_what_was_found(program):
    """Options are pasted onto the statements, other code runs, and who follows the advice hears no more."""
    findings = compare(program, findings_of(program.name)).found
    advice = " ".join(each.fix for each in findings)

    assert [part for part in program.says if part not in advice] == []
    if program.fixed is not None:
        assert list(map(str, rerun(program.fixed))) == []
    if program.paste and ".options(" in advice:
        with pasted(findings):
            left = {(each.kind, each.path) for each in rerun(program.run)}
        options = {(each.kind, each.path) for each in findings if each.fix.startswith(".options(")}
        assert options & left == set()
    with shelves.in_memory() as engine, Session(engine) as session:
        assert [trouble for each in findings if (trouble := trouble_of(each.fix, session))] == []


@pytest.mark.parametrize("program", AWAITED, ids=lambda each: each.name)
async def test_the_same_is_found_where_it_is_awaited(program, tmp_path):
    """With the lines of the code that awaits."""
    findings = await awaited_findings(tmp_path / "shop.db", program.run)

    verdict = compare(program, findings)

    assert (verdict.missed, verdict.extra) == ([], []), str(verdict)
    assert {each.site.file for each in findings if each.site} <= {awaited.__file__, tasks.__file__}


def test_the_same_is_found_on_postgresql(pg_url):
    """And what only PostgreSQL has is left alone."""
    engine = create_engine(pg_url)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        shelves.fill(session)

    verdicts = {each.name: compare(each, watched(engine, each.run)) for each in ON_POSTGRES}
    engine.dispose()

    assert [f"{name}: {each}" for name, each in verdicts.items() if each.missed or each.extra] == []
