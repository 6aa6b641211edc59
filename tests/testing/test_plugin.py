"""The pytest plugin, as a project sees it that has perfkit installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import aiosqlite  # noqa: F401 - what is imported here is not imported again in each run
import httpx  # noqa: F401
import hypothesis  # noqa: F401
import pytest

import perfkit.testing.plugin  # noqa: F401
from perfkit.loading import Baseline

pytest_plugins = ("pytester",)

APP = """
    from sqlalchemy import ForeignKey, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

    class Base(DeclarativeBase): ...

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Bin(Base):
        __tablename__ = "bins"
        id: Mapped[int] = mapped_column(primary_key=True)
        customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
        customer: Mapped[Customer] = relationship()

    def names(session):
        found = []
        for bin in session.scalars(select(Bin)):
            found.append(label(bin))
        return found

    def label(bin):
        return f"{bin.id} of {bin.customer.name}"

    def fast_names(session):
        return [label(bin) for bin in session.scalars(select(Bin).options(selectinload(Bin.customer)))]
"""
CONFTEST = """
    import pytest
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session
    from app import Base, Bin, Customer, names

    def fill(session, count):
        session.add_all([Bin(id=n, customer=Customer(id=n, name=f"c{n}")) for n in range(1, count + 1)])
        session.commit()
        session.expunge_all()

    @pytest.fixture
    def session():
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            yield session
        engine.dispose()

    @pytest.fixture
    def bins(session):
        fill(session, 5)

    @pytest.fixture
    def scaled(session, scale):
        fill(session, scale)
"""
INI = """
    [pytest]
    addopts = --strict-markers --strict-config -p no:cacheprovider -p no:randomly
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = function
    filterwarnings = error
"""
HEAD = """
    import pytest
    from app import *
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run a test file of a project, with options, and with lines for its pytest.ini."""
    monkeypatch.delenv("CI", raising=False)  # with it, pytest shows failures a second time, in whole
    pytester.makepyfile(app=APP)
    pytester.makeconftest(CONFTEST)
    pytester.syspathinsert()

    def run(tests: str, *options: str, ini: str = ""):
        pytester.makeini(INI + ini)
        pytester.makepyfile(test_it=HEAD + tests)
        return pytester.runpytest(*options)

    return run


def body_of(result) -> str:
    return "\n".join(result.outlines)


SLOW = """
    def test_slow(session, bins):
        assert len(names(session)) == 5
"""
FINE = """
    def test_fine(session, bins):
        assert len(fast_names(session)) == 5
"""


def test_it_is_off_until_asked_for(project):
    """An N+1 is nobody's business in a suite that never heard of perfkit."""
    project(SLOW).assert_outcomes(passed=1)


def test_a_run_without_it_imports_nothing(pytester):
    """Neither perfkit nor SQLAlchemy, in a suite that has neither."""
    pytester.makepyfile("import sys\ndef test_it():\n    assert not {'perfkit', 'sqlalchemy'} & sys.modules.keys()")

    pytester.runpytest_subprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_an_n_plus_one_fails_its_test(project):
    """With the path, the lines, what each of them ran and the fix; files from the root on, and no traceback of ours."""
    result = project(SLOW + FINE, "--perfkit-n1=fail")

    result.assert_outcomes(passed=1, failed=1)
    told = body_of(result)
    below = told[told.index("N+1, an attribute") :]
    meant = "@pytest.mark.perfkit_ignore('Bin.customer', reason=…)"
    below = re.sub(r", \d+\.\d ms of them without need", "", below[: below.index("=====")])
    assert below.splitlines() == [
        "N+1, an attribute loaded for one object at a time: Bin.customer – 5 statements for 5 parents",
        "    loaded by  app.py:19 in names",
        "    touched by app.py:24 in label",
        "    each ran   SELECT customers.id, customers.name FROM customers WHERE customers.id = ?",
        "    fix        .options(selectinload(Bin.customer))",
        "",
        f"If it is meant: {meant}; if it was there before: --perfkit-update-baseline.",
    ]


def test_an_n_plus_one_of_a_fixture_is_not_the_tests(project):
    """Fixtures run before its body, and after it."""
    tests = """
    @pytest.fixture
    def seen(session, bins):
        return names(session)

    def test_it(seen):
        assert len(seen) == 5
    """

    project(tests, "--perfkit-n1=fail").assert_outcomes(passed=1)


def test_an_n_plus_one_can_be_a_warning(project):
    """Which the project's own filters then judge."""
    warned = project(SLOW, "--perfkit-n1=warn", "-W", "default")
    warned.assert_outcomes(passed=1, warnings=1)
    warned.stdout.fnmatch_lines(["*NPlusOneWarning: N+1, an attribute loaded for one object at a time: Bin.customer*"])

    project(SLOW, "--perfkit-n1=warn").assert_outcomes(failed=1)


def test_the_error_of_a_test_comes_before_its_findings(project):
    """Whoever repairs a test wants to see why it failed."""
    tests = """
    def test_it(session, bins):
        names(session)
        raise RuntimeError("of its own")
    """

    result = project(tests, "--perfkit-n1=fail")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*RuntimeError: of its own"])
    assert "N+1" not in body_of(result)


def test_settings_of_the_project_turn_it_on(project):
    """And an option turns it off for once."""
    ini = "    perfkit_n1 = fail\n"

    project(SLOW, ini=ini).assert_outcomes(failed=1)
    project(SLOW, "--perfkit-n1=off", ini=ini).assert_outcomes(passed=1)


def test_settings_of_the_project_may_name_folders(project, pytester):
    """Others are not looked at; one that is not there stops the run."""
    ini = "    perfkit_n1 = fail\n    perfkit_paths = api other/test_one.py\n"
    for folder in ("api", "other"):
        pytester.mkdir(folder)
        for name in ("one", "two"):
            pytester.path.joinpath(folder, f"test_{name}.py").write_text(dedent(HEAD + SLOW))

    result = project(FINE, "--import-mode=importlib", ini=ini)

    result.assert_outcomes(failed=3, passed=2)
    result = project(FINE, ini=ini.replace("api", "apis"))
    assert "ERROR: perfkit_paths: there is no apis" in result.errlines


REQUESTS = """
    import httpx
    from app import Bin

    def service(session):
        async def app(scope, receive, send):
            {does}
            await send({{"type": "http.response.start", "status": 204}})
            await send({{"type": "http.response.body"}})
        return app

    async def test_requests(session, bins):
        transport = httpx.ASGITransport(service(session))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            for number in range(1, 6):
                await client.get(f"/{{number}}")

    def test_requests_of_a_sync_client(session, bins):
        def app(environ, start_response):
            scope = {{"path": environ["PATH_INFO"]}}
            {does}
            start_response("204 No Content", [])
            return []

        with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://service") as client:
            for number in range(1, 6):
                client.get(f"/{{number}}")
"""


def test_requests_that_a_test_sends_are_looked_at_one_by_one(project):
    """Five requests for a bin each are five requests; what one of them loads in a loop is found."""
    of_one = REQUESTS.format(does='session.get(Bin, int(scope["path"][1:])); session.expunge_all()')
    of_all = REQUESTS.format(does="names(session); session.expunge_all()")

    project(of_one, "--perfkit-n1=fail").assert_outcomes(passed=2)
    result = project(of_all, "--perfkit-n1=fail")

    result.assert_outcomes(failed=2)
    assert body_of(result).count("Bin.customer – 25 statements for 25 parents") == 2


KINDS = {
    "class": """
    class TestIt:
        def test_slow(self, session, bins):
            names(session)
    """,
    "parametrized": """
    @pytest.mark.parametrize("function", [names, fast_names])
    def test_each(session, bins, function):
        function(session)
    """,
    "unittest": """
    import unittest

    class TestIt(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def given(self, session, bins):
            self.session = session

        def test_slow(self):
            names(self.session)
    """,
    "async": """
    async def test_slow(session, bins):
        names(session)
    """,
}
EXAMPLES = """
    from hypothesis import HealthCheck, given, settings, strategies

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(number=strategies.integers(1, 5))
    def test_one(session, bins, number):
        session.get(Bin, number).customer.name
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_test_is_watched(project, kind):
    """By a window around its body."""
    result = project(KINDS[kind], "--perfkit-n1=fail")

    assert result.parseoutcomes()["failed"] == 1
    assert "Bin.customer – 5 statements" in body_of(result)


def test_each_example_of_hypothesis_has_a_window(project):
    """One object in each of five is no loop over five."""
    project(EXAMPLES, "--perfkit-n1=fail").assert_outcomes(passed=1)


# ---- ignored


def test_a_marker_leaves_a_path_out(project):
    """Of its test, its class or its module, with a reason."""
    tests = """
    @pytest.mark.perfkit_ignore("Bin.customer", reason="five at most")
    def test_left(session, bins):
        names(session)
    """

    project(tests + SLOW, "--perfkit-n1=fail").assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('"Bin.customer"', "*test_left: perfkit_ignore: write @pytest.mark.perfkit_ignore(*, reason=*"),
        ('"Bin.customer", reason=""', "*test_left: ignore('Bin.customer'): give a reason*"),
        ('"Bin.customer", reason="x", until="soon"', "*test_left: ignore('Bin.customer', until='soon')*"),
    ],
)
def test_a_marker_that_cannot_work_stops_the_run(project, arguments, message):
    """Before the first test."""
    tests = f"""
    @pytest.mark.perfkit_ignore({arguments})
    def test_left(session, bins):
        names(session)
    """

    result = project(tests, "--perfkit-n1=fail")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_marker_with_a_typo_fails_its_test(project):
    """When the models are there that it could mean."""
    tests = """
    @pytest.mark.perfkit_ignore("Bin.custmer", reason="five at most")
    def test_left(session, bins):
        names(session)
    """

    result = project(tests, "--perfkit-n1=fail")

    result.assert_outcomes(failed=1)
    line = "perfkit_ignore: 'Bin.custmer': 'custmer' is no attribute of Bin; do you mean 'Bin.customer'?"
    result.stdout.fnmatch_lines([line])
    assert "During handling" not in body_of(result)


def test_a_marker_whose_day_has_come_is_told_at_the_end(project):
    """Its finding counts again."""
    tests = """
    @pytest.mark.perfkit_ignore("Bin.customer", reason="until the rewrite", until="2026-01-01")
    def test_left(session, bins):
        names(session)
    """

    result = project(tests, "--perfkit-n1=fail", "-W", "ignore")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["over, and still found: ignore Bin.customer until 2026-01-01 (until the rewrite), of test_it.py::test_left"]
    )


def test_a_marker_that_meets_nothing_is_told_at_the_end(project):
    """In a whole run, and if no example of its test needs it."""
    tests = """
    @pytest.mark.perfkit_ignore("Bin.customer", reason="five at most")
    @pytest.mark.parametrize("function", [names, fast_names])
    def test_used(session, bins, function):
        function(session)

    @pytest.mark.perfkit_ignore("Bin.customer", reason="repaired long ago")
    def test_unused(session, bins):
        fast_names(session)
    """

    result = project(tests, "--perfkit-n1=fail")

    result.assert_outcomes(passed=3)
    told = re.findall("^met nothing.*", body_of(result), re.MULTILINE)
    rule = "ignore Bin.customer (repaired long ago), of test_it.py::test_unused"
    assert told == [f"met nothing, and can go: {rule}"]


def test_rules_of_the_project_hold_for_all_tests(project, pytester):
    """The same ones that its middleware uses; those that met nothing in a whole run are named."""
    pytester.makepyfile(
        perf="""
        from app import Base
        from perfkit.loading import Ignores, ignore
        IGNORED = Ignores(
            ignore("Bin.customer", at="app.*", reason="five at most"), ignore("bins", reason="gone?"), models=Base
        )
        """
    )

    result = project(SLOW, "--perfkit-n1=fail", ini="    perfkit_ignores = perf:IGNORED\n")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["met nothing, and can go: ignore bins (gone?)"])


@pytest.mark.parametrize("name", ["perf:IGNORED", "app:Base", "app"])
def test_rules_that_are_not_there_stop_the_run(project, name):
    """Rather than to leave out nothing."""
    result = project(SLOW, "--perfkit-n1=fail", ini=f"    perfkit_ignores = {name}\n")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*perfkit_ignores = {name}: *"])


# ---- baseline and SARIF

OTHER = """
    def test_other(session, bins):
        for bin in session.scalars(select(Bin)):
            bin.customer
"""


def test_only_new_findings_fail(project, pytester):
    """What was there when the baseline was written does not."""
    options = ("--perfkit-n1=fail", "--perfkit-baseline=known.json")
    first = project(SLOW, *options, "--perfkit-update-baseline")
    second = project(SLOW + OTHER, *options)

    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["known.json written: 1 new, 0 gone"])
    second.assert_outcomes(passed=1, failed=1)
    second.stdout.fnmatch_lines(["1 finding new, 1 known"])
    assert json.loads(Path(pytester.path, "known.json").read_text())["known"] == ["lazy_load:Bin.customer@app:label"]


def test_what_is_not_found_any_more_is_told(project):
    """After a run of everything in which nothing failed; otherwise nobody knows."""
    options = ("--perfkit-n1=fail", "--perfkit-baseline=known.json")
    project(SLOW + OTHER, *options, "--perfkit-update-baseline")

    whole, part = project(SLOW, *options), project(SLOW, *options, "test_it.py")

    whole.stdout.fnmatch_lines(
        ["known in known.json and not found any more:", "    lazy_load:Bin.customer@test_it:test_other"]
    )
    assert "not found any more" not in body_of(part)


def test_a_run_of_a_part_forgets_nothing(project, pytester):
    """Updating a baseline after one test leaves what others have found."""
    options = ("--perfkit-baseline=known.json", "--perfkit-update-baseline")
    project(SLOW + OTHER, *options)

    project(SLOW + OTHER, *options, "-k", "slow")
    kept = json.loads(Path(pytester.path, "known.json").read_text())["known"]
    project(FINE, *options)
    gone = json.loads(Path(pytester.path, "known.json").read_text())["known"]

    assert (len(kept), gone) == (2, [])


def test_a_baseline_alone_looks_for_nothing(project):
    """Whoever names one expects that something is compared with it."""
    result = project(SLOW, "--perfkit-baseline=known.json")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nothing is looked for without --perfkit-n1=fail or =warn"])


def test_files_of_the_settings_wait_until_something_is_watched(project):
    """A test that counts statements needs neither."""
    tests = """
    @pytest.mark.max_queries(6)
    def test_six(session, bins):
        names(session)
    """
    ini = "    perfkit_baseline = not-there.json\n    perfkit_sarif = out.sarif\n"

    result = project(tests, ini=ini)

    result.assert_outcomes(passed=1)
    assert "out.sarif" not in body_of(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--perfkit-baseline=no.json",), "*no.json: there is no such file: --perfkit-update-baseline makes it"),
        (("--perfkit-baseline=test_it.py",), "*test_it.py: is no JSON from line 1 on *; mend it, or remove it and *"),
        (("--perfkit-update-baseline",), "*give --perfkit-baseline=FILE too"),
    ],
)
def test_a_baseline_that_cannot_be_used_stops_the_run(project, options, message):
    """A typo would otherwise make everything new, or nothing."""
    result = project(SLOW, "--perfkit-n1=fail", *options)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_findings_go_into_a_sarif_file(project, pytester):
    """Without failing anything, if that is all that was asked for; files from the root on."""
    result = project(SLOW, "--perfkit-sarif=out.sarif")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 finding in out.sarif"])
    (run,) = json.loads(Path(pytester.path, "out.sarif").read_text())["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "app.py", "uriBaseId": "ROOT"}, "region": {"startLine": 24}}


def test_workers_of_xdist_add_up(project, pytester):
    """Each judges its own tests; the end, a baseline and SARIF have what all of them found."""
    Baseline(["lazy_load:Bin.customer@app:label", "lazy_load:Bin.note@gone"]).write("known.json", keep_unseen=True)
    project("", "--collect-only")
    pytester.makepyfile(test_a=HEAD + SLOW, test_b=HEAD + OTHER)

    options = ("--perfkit-n1=fail", "--perfkit-baseline=known.json", "--perfkit-sarif=out.sarif")
    result = pytester.runpytest_subprocess("-n2", "-p", "no:hypothesispytest", *options)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["2 findings in out.sarif", "1 finding new, 1 known"])
    (ran,) = json.loads(Path(pytester.path, "out.sarif").read_text())["runs"]
    assert [each["baselineState"] for each in ran["results"]] == ["unchanged", "new"]


# ---- counting


def test_a_test_may_run_so_many_statements(project):
    """With all of them, the most frequent first, where there are more."""
    tests = """
    @pytest.mark.max_queries(6)
    def test_six(session, bins):
        names(session)

    @pytest.mark.max_queries(2)
    def test_two(session, bins):
        names(session)
    """

    result = project(tests)

    result.assert_outcomes(passed=1, failed=1)
    told = body_of(result)
    below = told[told.index("max_queries(2)") :]
    assert below[: below.index("=====")].splitlines() == [
        "max_queries(2): 6 statements ran",
        "",
        "  5 ×  SELECT customers.id, customers.name FROM customers WHERE customers.id = ?",
        "       run by app.py:24 in label",
        '         > 24 │ return f"{bin.id} of {bin.customer.name}"',
        "       called in a loop by app.py:20 in names",
        "           19 │ for bin in session.scalars(select(Bin)):",
        "         > 20 │     found.append(label(bin))",
        "",
        "  1 ×  SELECT bins.id, bins.customer_id FROM bins",
        "       run by app.py:19 in names",
        "         > 19 │ for bin in session.scalars(select(Bin)):",
    ]


def test_statements_are_not_to_grow_with_the_rows(project):
    """The failure says which one did, from how many to how many, in which loop, and what ends it."""
    tests = """
    @pytest.mark.constant_queries
    def test_slow(session, scaled, scale):
        assert len(names(session)) == scale

    @pytest.mark.constant_queries(scale=(3, 30))
    def test_fine(session, scaled, scale):
        assert len(fast_names(session)) == scale
    """

    result = project(tests)

    result.assert_outcomes(passed=1, failed=1)
    told = body_of(result)
    below = told[told.index("constant_queries") :]
    assert below[: below.index("=====")].splitlines() == [
        "constant_queries: with 7 in place of 2, 1 statement ran more often",
        "",
        "  2 → 7 ×  SELECT customers.id, customers.name FROM customers WHERE customers.id = ?",
        "           run by app.py:24 in label",
        '             > 24 │ return f"{bin.id} of {bin.customer.name}"',
        "           called in a loop by app.py:20 in names",
        "               19 │ for bin in session.scalars(select(Bin)):",
        "             > 20 │     found.append(label(bin))",
        "           fix  .options(selectinload(Bin.customer))",
        "",
        "  in all 3 → 8",
    ]


TWICE = {
    "class": """
    class TestIt:
        @pytest.mark.constant_queries
        def test_it(self, session, scaled):
            assert not hasattr(self, "ran")
            self.ran = True
            names(session)
    """,
    "parametrized": """
    @pytest.mark.constant_queries
    @pytest.mark.parametrize("number", [1])
    def test_it(session, scaled, number):
        names(session)
    """,
    "async": """
    @pytest.mark.constant_queries
    async def test_it(session, scaled):
        names(session)
    """,
    "async engine": """
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
    from conftest import fill

    @pytest.mark.constant_queries
    async def test_it(scale):
        engine = create_async_engine("sqlite+aiosqlite://")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            await session.run_sync(fill, scale)
            await session.run_sync(names)
        await engine.dispose()
    """,
}


@pytest.mark.parametrize("kind", TWICE)
def test_every_kind_of_test_is_run_twice(project, kind):
    """With fixtures, and an instance of its class, of their own each time."""
    result = project(TWICE[kind])

    result.assert_outcomes(failed=1)
    assert "2 → 7 ×  SELECT customers.id" in body_of(result)


def test_a_list_in_a_statement_may_grow(project):
    """Its length makes no other statement of it; nor does the number of a savepoint."""
    tests = """
    @pytest.mark.constant_queries
    def test_it(session, scaled, scale):
        session.scalars(select(Bin).where(Bin.id.in_(range(scale)))).all()
        with session.begin_nested():
            session.scalars(select(Bin).options(selectinload(Bin.customer))).all()
    """

    project(tests).assert_outcomes(passed=1)


def test_rows_that_are_made_in_the_body_are_told_apart_from_loops(project):
    """The statement that grew is then the one that makes them."""
    tests = """
    from sqlalchemy import insert

    @pytest.mark.constant_queries
    def test_it(session, scale):
        for n in range(scale):
            session.execute(insert(Customer).values(id=n, name="x"))
    """

    result = project(tests)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Rows are made in a fixture that asks for `scale`*"])


def test_a_test_that_fails_by_itself_fails_as_ever(project):
    """In either run, once; so do a fixture of it and a skip."""
    tests = """
    @pytest.mark.constant_queries
    def test_first(scale):
        assert scale == 7

    @pytest.mark.constant_queries
    def test_second(scale):
        assert scale == 2

    @pytest.fixture
    def broken(scale):
        raise RuntimeError

    @pytest.mark.constant_queries
    def test_fixture(broken): ...

    @pytest.mark.constant_queries
    def test_skipped(scale):
        pytest.skip("not today")

    @pytest.mark.constant_queries
    @pytest.mark.xfail(strict=True)
    def test_expected(scale):
        assert scale == 2

    @pytest.mark.constant_queries
    def test_with_fixtures(scale, tmp_path):
        assert not list(tmp_path.iterdir())
        (tmp_path / "file").touch()
    """

    project(tests).assert_outcomes(passed=1, failed=2, errors=1, skipped=1, xfailed=1)


def test_fixtures_of_the_module_are_set_up_once(project):
    """Only what belongs to the test is taken down between its two runs."""
    tests = """
    made = []

    @pytest.fixture(scope="module")
    def shared():
        made.append(1)
        yield
        made.append(-1)

    @pytest.fixture
    def own():
        made.append(2)
        yield
        made.append(-2)

    @pytest.mark.constant_queries
    def test_it(shared, own, scale): ...

    def test_after(shared):
        assert made == [1, 2, -2, 2, -2]
    """

    project(tests).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "arguments", "message"),
    [
        ("constant_queries", "session", "let the test, or a fixture that makes its rows, ask for `scale`"),
        ("constant_queries(scale=(7, 2))", "scale", "give two numbers of rows, the smaller one first"),
        ("constant_queries(scale=3)", "scale", "give two numbers of rows, the smaller one first"),
        ("max_queries", "session", "max_queries: write @pytest.mark.max_queries(3)"),
        ("constant_queries(2, 7)", "scale", "write @pytest.mark.constant_queries or constant_queries(scale=(2, 7))"),
        ("max_queries(True)", "session", "give how many statements the test may run"),
        ("max_queries('3')", "session", "give how many statements the test may run"),
    ],
)
def test_a_count_that_cannot_be_meant_stops_the_run(project, marker, arguments, message):
    """Before the first test, with the name of the one that has it."""
    result = project(f"    @pytest.mark.{marker}\n    def test_it({arguments}): ...\n")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*test_it.py::test_it: *{message}*"])


def test_scale_is_for_tests_that_are_run_twice(project):
    """Anywhere else nobody says how many."""
    result = project("    def test_it(scale): ...\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture `scale` is for tests that are marked with constant_queries*"])


def test_a_mode_that_is_none_is_refused(project):
    """Rather than to be off."""
    result = project(SLOW, ini="    perfkit_n1 = on\n")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*perfkit_n1 = 'on': give one of off, warn, fail"])


def test_this_plugin_is_cheap_to_load():
    """Every suite in an environment with perfkit imports it: pytest is all it needs."""
    program = "import sys, pytest; before = set(sys.modules); import perfkit_pytest; print(set(sys.modules) - before)"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "{'perfkit_pytest'}"
