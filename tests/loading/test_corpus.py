"""Programs as people write them: what is wrong in them is found, its fix ends it, and nothing else is found."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from perfkit.loading import Finding, detect
from tests.loading import cases_columns, cases_lazy
from tests.loading.cases import NAMES, Case, Fix, Paste
from tests.loading.models import Base, rows

CASES = [*cases_lazy.CASES, *cases_columns.CASES]
POSITIVE = [case for case in CASES if case.kind is not None]
QUIET = [case for case in CASES if case.kind is None]


@pytest.fixture(scope="module")
def engine():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows())
        session.commit()
    yield engine
    engine.dispose()


def findings_of(case: Case, engine, fix: Fix) -> tuple[list[Finding], object]:
    opened = eval(fix.text, {**NAMES, "engine": engine}) if fix.text.startswith("Session(") else Session(engine)
    with opened as session, detect() as window:
        result = case.run(session, fix)
    return window.findings, result


def wanted(case: Case, findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.kind is case.kind and each.path == case.path]


@pytest.mark.parametrize("case", POSITIVE, ids=lambda case: case.name)
def test_what_is_wrong_is_found_and_its_fix_ends_it(case: Case, engine):
    """Kind and path are as expected; with the fix pasted, the finding is gone."""
    findings, result = findings_of(case, engine, Fix())

    (finding,) = wanted(case, findings) or pytest.fail("\n".join(map(str, findings)) or "nothing found")
    assert finding.site is not None
    assert __package__.replace(".", "/") in finding.site.file
    if case.paste is Paste.STATEMENT:
        expect_the_statement_to_replace_the_loop(finding, result, engine)
    elif case.paste in (Paste.COMPILES, Paste.DECORATOR):
        text = f"statement{finding.fix}" if finding.fix.startswith(".") else finding.fix
        compile(text, "fix", "exec")
    else:
        afterwards, _ = findings_of(case, engine, Fix(finding.fix))
        assert wanted(case, afterwards) == []


@pytest.mark.parametrize("case", QUIET, ids=lambda case: case.name)
def test_what_is_as_it_should_be_is_left_alone(case: Case, engine):
    """Nothing is found."""
    findings, _ = findings_of(case, engine, Fix())

    assert list(map(str, findings)) == []


def expect_the_statement_to_replace_the_loop(finding: Finding, result, engine) -> None:
    """One statement gives all that the loop gave."""
    ids, expected = result
    with Session(engine) as session, detect() as window:
        statement = eval(finding.fix, {**NAMES, "ids": ids})
        found = {value for row in session.execute(statement) for value in row}
    assert window.findings == []
    assert {*expected} <= {getattr(value, "id", value) for value in found}
