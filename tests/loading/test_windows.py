"""A window sees its own context, nests, decorates, and changes nothing."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload
from sqlalchemy.pool import StaticPool

from perfkit import Cache
from perfkit.loading import Finding, Kind, Origin, detect, reports
from perfkit.sqla import executions
from tests.loading.models import Base, Bin, Customer, fill


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    yield engine
    engine.dispose()


def names(session: Session, organization: int = 1) -> list[str]:
    statement = select(Customer).where(Customer.organization_id == organization)
    return [one.name for customer in session.scalars(statement) for one in customer.bins]


def paths(findings: list[Finding]) -> list[str]:
    return [each.path for each in findings]


def test_findings_can_be_read_while_the_window_is_open_and_afterwards(engine):
    """They grow with what happens; what was read in between is not the last word."""
    with Session(engine) as session, detect() as window:
        assert window.findings == []
        names(session)
        assert paths(window.findings) == ["Customer.bins"]
        [one.customer.name for one in session.scalars(select(Bin).execution_options(populate_existing=True))]
    assert sorted(paths(window.findings)) == ["Bin.customer", "Customer.bins"]


def test_findings_that_were_read_early_are_not_the_last_word(engine):
    """What was found by then was all that a closed window told."""
    with Session(engine) as session, detect() as window:
        assert window.findings == []
        names(session)

    assert paths(window.findings) == ["Customer.bins"]


def test_windows_nest(engine):
    """Each has what ran inside it."""
    with Session(engine) as session, detect() as outer:
        names(session, 1)
        with detect() as inner:
            names(session, 2)

    assert [each.statements for each in inner.findings] == [2]
    assert [each.statements for each in outer.findings] == [4]


def test_windows_may_end_in_any_order(engine):
    """Each takes away what is its own; the outer one first left the inner one's behind, for ever."""
    outer, inner = ExitStack(), ExitStack()
    outer.enter_context(detect())
    window = inner.enter_context(detect())
    outer.close()
    with Session(engine) as session:
        names(session)
    inner.close()

    assert paths(window.findings) == ["Customer.bins"]
    assert executions._takers.get() == ()


def test_a_window_that_is_closed_elsewhere_says_what_it_missed(engine):
    """As one in a dependency that a thread of its own runs; no listener stays."""
    stack = ExitStack()
    contextvars.copy_context().run(stack.enter_context, detect())

    with pytest.warns(RuntimeWarning, match="closed in another context"):
        stack.close()

    assert not event.contains(Session, "do_orm_execute", executions._on_orm)


async def test_a_task_that_goes_on_adds_nothing_to_a_closed_window(engine):
    """A worker that was started in a request would fill its window until the end of the process."""
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        with Session(engine) as session, detect():
            names(session)

    with detect() as window:
        task = asyncio.create_task(work())
    go_on.set()
    await task

    assert window.findings == []


def test_objects_from_before_the_window_count(engine):
    """The line of their query is not known."""
    with Session(engine) as session:
        customers = session.scalars(select(Customer)).all()
        with detect() as window:
            [len(customer.bins) for customer in customers]

    (finding,) = window.findings
    assert (finding.path, finding.parents, finding.origin) == ("Customer.bins", 6, None)


def test_from_how_many_on_can_be_said(engine):
    """And one is never many."""
    with Session(engine) as session, detect(min_parents=3) as window:
        names(session)

    assert window.findings == []
    with pytest.raises(ValueError, match="2 is the least"):
        detect(min_parents=1)


def test_a_function_has_a_window_for_each_call(engine):
    """And its findings go to whom the decorator names."""
    reported: list[list[str]] = []

    @detect(report=lambda findings: reported.append(paths(findings)))
    def handler(organization: int) -> list[str]:
        with Session(engine) as session:
            return names(session, organization)

    assert handler(1) == handler(1)
    assert reported == [["Customer.bins"], ["Customer.bins"]]
    assert handler.__name__ == "handler"


async def test_a_coroutine_function_has_one_too(engine):
    """Also when calls overlap."""
    reported: list[list[int]] = []

    @detect(report=lambda findings: reported.append([each.statements for each in findings]))
    async def handler(organization: int) -> None:
        await asyncio.sleep(0)
        with Session(engine) as session:
            names(session, organization)

    await asyncio.gather(handler(1), handler(2))

    assert reported == [[2], [2]]


def test_what_runs_after_its_call_is_refused():
    """The window of a generator was closed before its body began, and found nothing; a class became a function."""

    def rows():
        yield 1

    async def async_rows():
        yield 1

    for function in (rows, async_rows, Customer):
        with pytest.raises(TypeError, match="write `with detect"):
            detect()(function)


def test_a_report_that_is_none_is_refused():
    """When the window is made, not when it has found something."""
    with pytest.raises(TypeError, match="report='log': give a function"):
        detect(report="log")


def test_an_error_of_the_block_is_not_replaced_by_its_findings(engine):
    """It is the one to be looked at first."""

    @detect(report=reports.fail)
    def broken(session):
        names(session)
        raise KeyError

    with Session(engine) as session, pytest.raises(KeyError):
        broken(session)


async def test_an_object_that_is_called_as_a_coroutine_has_one_too(engine):
    """Such as a handler with settings of its own."""

    class Handler:
        async def __call__(self) -> None:
            await asyncio.sleep(0)
            with Session(engine) as session:
                names(session)

    reported: list[list[str]] = []
    handler = Handler()

    await detect(report=lambda findings: reported.append(paths(findings)))(handler)()

    assert reported == [["Customer.bins"]]


def test_other_threads_are_not_seen(engine):
    """Whatever they do meanwhile."""

    def work() -> None:
        with Session(engine) as session:
            names(session)

    with detect() as window:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert window.findings == []


async def test_tasks_have_windows_of_their_own(tmp_path):
    """A window of one sees nothing of the other."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/windows.sqlite3")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        await session.run_sync(fill)

    async def request(organization: int) -> list[int]:
        with detect() as window:
            async with AsyncSession(engine) as session:
                await session.run_sync(names, organization)
        return [each.statements for each in window.findings]

    assert await asyncio.gather(request(1), request(2), request(3)) == [[2], [2], [2]]
    await engine.dispose()


def test_nothing_is_left_behind(engine):
    """No listener, no attribute of another class, also after an error."""
    with Session(engine) as session, pytest.raises(ZeroDivisionError), detect():
        1 / len(session.scalars(select(Customer).where(Customer.id < 0).options(selectinload(Customer.bins))).all())

    assert type(Customer.bins) is InstrumentedAttribute
    assert not event.contains(Session, "do_orm_execute", executions._on_orm)
    assert not event.contains(Engine, "after_cursor_execute", executions._after)


def test_a_finding_tells_both_lines_and_the_code_that_ends_it(engine):
    """As text for people; its key has no line in it."""
    with Session(engine) as session, detect() as window:
        names(session)

    (finding,) = window.findings
    assert finding.kind is Kind.LAZY_LOAD
    assert finding.key == "lazy_load:Customer.bins@tests.loading.test_windows:names"
    assert isinstance(finding.origin, Origin)
    text = str(finding)
    assert "Customer.bins – 2 statements for 2 parents" in text
    assert f"loaded by  {__file__}:" in text
    assert "fix        .options(selectinload(Customer.bins))" in text


def test_a_blank_line_more_changes_no_finding(tmp_path, engine):
    """Lines are for people; what is found depends on instructions."""
    source = Path(__file__).with_name("cases_loops.py").read_text()
    program = source.replace("\n\n", "\n\n\n\n").replace(":\n    ", ":\n\n    ")

    def keys(text: str) -> list[tuple[str, int, str]]:
        space: dict[str, object] = {"__name__": "program"}
        exec(compile(text, str(tmp_path / "program.py"), "exec", dont_inherit=True), space)  # noqa: S102
        found = []
        for case in space["CASES"]:  # type: ignore[attr-defined]
            with Session(engine) as session, detect() as window:
                case.run(session, lambda statement: statement)
            found += sorted((each.key, each.statements, each.fix) for each in window.findings)
        return found

    assert keys(program) == keys(source)
    assert len(keys(source)) > 40


def test_importing_it_registers_nothing():
    """The listeners come with the first window."""
    program = (
        "import perfkit.loading\n"
        "from sqlalchemy.orm import Session\n"
        "from perfkit.sqla import executions\n"
        "from sqlalchemy import event\n"
        "print(event.contains(Session, 'do_orm_execute', executions._on_orm))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_loads_of_many_and_of_one_in_one_window(engine):
    """The one is no part of the finding."""
    with Session(engine) as session, detect() as window:
        names(session)
        session.get(Bin, 12).customer.name

    assert paths(window.findings) == ["Customer.bins"]


def test_a_program_without_a_file_has_lines_too(engine):
    """Those of the text that was executed."""
    program = "for one in session.scalars(select(Bin)).all(): one.customer.name"
    with Session(engine) as session, detect() as window:
        exec(program, {"session": session, "select": select, "Bin": Bin})  # noqa: S102

    assert str(window.findings[0].site) == "<string>:1 in <module>"


def test_generated_code_is_nobodys_line(engine):
    """A wrapper that keeps a signature stands in its module's name, and in no file."""
    space = {"__file__": __file__, "names": names}
    exec("def wrapper(session): return names(session)", space)  # noqa: S102
    with Session(engine) as session, detect() as window:
        space["wrapper"](session)

    assert window.findings[0].site.file == __file__


def test_a_comprehension_is_a_part_of_its_function(engine):
    """It was `names.<locals>.<listcomp>` before Python 3.12, so a baseline and an ignore rule knew one of the two."""

    def of_list(session):
        return [[each.customer.name for each in session.scalars(select(Bin))] for _ in "1"]

    def of_generator(session):
        return ", ".join(each.customer.name for each in session.scalars(select(Bin)))

    for function in (of_list, of_generator):
        with Session(engine) as session, detect() as window:
            function(session)

        assert [each.site.function for each in window.findings] == [function.__qualname__]


def test_what_perfkit_generates_is_nobodys_line_either(engine):
    """`cache.get` is compiled for each model, and was taken for the line that asked."""
    cache = Cache("test-windows")
    cache.connect("memory://")
    cache.watch(engine, Base.metadata)

    with Session(engine) as session, detect() as window:
        for number in (1, 2, 3):
            cache.get(session, Bin, number)

    assert window.findings[0].site.file == __file__
