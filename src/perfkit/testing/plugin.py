"""The pytest plugin, once one of its options or markers is used: what is watched in a test, and what it comes to.

A window covers the body of a test and nothing else: fixtures run before and after it. It is opened inside a coroutine,
so that it is in the context of whichever task runs that; with Hypothesis each example has its own.

A test marked with `constant_queries` is set up, run and taken down once for each scale, and reported once.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from perfkit.errors import LoadingError, NPlusOneFound, UnknownPath
from perfkit.loading import Baseline, Finding, Ignore, Ignores, Window, detect, ignore, reports
from perfkit.loading.reports.sarif import write_sarif
from perfkit.sqla.private import mapped_classes
from perfkit.testing.clients import requests_apart
from perfkit.testing.collected import Collected
from perfkit.testing.queries import Counted, counting, not_constant, too_many

SCALES = (2, 7)
_WORKER = "perfkit"


class Watched:
    """What the windows of a test saw: one, or one for each example."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.counts: list[Counted] = []

    @property
    def findings(self) -> list[Finding]:
        return list({finding.key: finding for window in self.windows for finding in window.findings}.values())

    @property
    def largest(self) -> Counted:
        return max(self.counts, key=lambda counted: counted.total, default=Counted())


class Plugin:
    """The options of a run, and what it has found so far. `scale` is where the fixture of that name looks."""

    def __init__(self, config: pytest.Config, scale: pytest.StashKey[int]) -> None:
        self._config, self._root, self._scale = config, config.rootpath, scale
        self._mode = config.getoption("perfkit_n1") or config.getini("perfkit_n1")
        self._updates = bool(config.getoption("perfkit_update_baseline"))
        self._sarif = self._file("perfkit_sarif")
        self._baseline_file = self._file("perfkit_baseline")
        asked = self._mode != "off" or self._updates or bool(config.getoption("perfkit_sarif"))
        self._watches = asked and config.getoption("perfkit_n1") != "off"
        self._baseline = self._read_baseline() if self._watches else None
        self._paths = self._read_paths() if self._watches else []
        self._ignores: Ignores | None = None
        self._collected = Collected()
        self._smaller: Counted | None = None
        self._told: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Import the project's rules: `pythonpath` and conftest files have been seen to by now."""
        if self._watches and (name := self._config.getini("perfkit_ignores")):
            self._ignores = _ignores_at(name)

    # ---- a test

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse what cannot work before the first test runs."""
        for item in session.items:
            for marker in item.iter_markers():
                if check := _CHECKS.get(marker.name):
                    try:
                        check(item, *marker.args, **marker.kwargs)
                    except TypeError:
                        usage = f"write @pytest.mark.{_USAGE[marker.name]}"
                        raise pytest.UsageError(f"{item.nodeid}: {marker.name}: {usage}") from None
                    except (LoadingError, ValueError) as wrong:
                        raise pytest.UsageError(f"{item.nodeid}: {wrong}") from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        marker = item.get_closest_marker("constant_queries")
        if marker is None or not isinstance(item, pytest.Function):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        first, second = _scales(item, *marker.args, **marker.kwargs)
        self._smaller = None
        item.stash[self._scale] = first
        # taken down as before another test of the same class or module: pytest asks what is next for its parents only
        found = runtestprotocol(item, log=False, nextitem=item.parent)  # type: ignore[arg-type]
        # a body that passed, whatever its report made of that: of one marked as a strict xfail it says that it failed
        if self._smaller is not None and all(report.passed for report in found if report.when != "call"):
            _begin_again(item)
            item.stash[self._scale] = second
            found = runtestprotocol(item, log=False, nextitem=nextitem)
        for report in found:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        grows = item.get_closest_marker("constant_queries") is not None
        counts = grows or item.get_closest_marker("max_queries") is not None
        finds = self._watches and self._is_looked_at(item)
        if not isinstance(item, pytest.Function) or not (counts or finds):
            return (yield)
        watched = Watched()
        with _watching(item, watched, counts=counts, finds=finds or grows):
            try:
                result = yield
            except BaseException:
                self._note(item, watched, passed=False)
                raise
        left = self._note(item, watched, passed=True)
        self._judge_counts(item, watched)
        self._judge_findings(item, left)
        return result

    def _note(self, item: pytest.Item, watched: Watched, *, passed: bool) -> list[Finding]:
        """Keep what was found, and return what is new of it."""
        if not (self._watches and self._is_looked_at(item)):
            return []
        found = watched.findings
        rules = [ignore(*marker.args, **marker.kwargs) for marker in item.iter_markers("perfkit_ignore")]
        if rules:
            own = _own_ignores(rules)
            found = own.left(found)
            self._note_rules(own, f", of {item.nodeid.partition('[')[0]}", passed=passed)
        if self._ignores is not None:
            found = self._ignores.left(found)
        self._collected.add(found)
        return found if self._baseline is None else self._baseline.left(found)

    def _note_rules(self, ignores: Ignores, of: str = "", *, passed: bool) -> None:
        unused = {f"{rule}{of}" for rule in ignores.unused}
        self._collected.over.update(f"{rule}{of}" for rule in ignores.over)
        self._collected.met.update({f"{rule}{of}" for rule in ignores.rules} - unused)
        if passed:
            self._collected.idle.update(unused)

    def _judge_counts(self, item: pytest.Item, watched: Watched) -> None:
        if marker := item.get_closest_marker("max_queries"):
            at_most = _at_most(item, *marker.args, **marker.kwargs)
            if watched.largest.total > at_most:
                pytest.fail(too_many(watched.largest, at_most, self._root), pytrace=False)
        if marker := item.get_closest_marker("constant_queries"):
            if self._smaller is None:
                self._smaller = watched.largest
                return
            scale = _scales(item, *marker.args, **marker.kwargs)
            if text := not_constant(self._smaller, watched.largest, scale, self._root, watched.findings):
                pytest.fail(text, pytrace=False)

    def _judge_findings(self, item: pytest.Item, findings: list[Finding]) -> None:
        if not findings or self._updates:
            return
        if self._mode == "fail":
            pytest.fail(_failure(findings, self._root), pytrace=False)
        if self._mode == "warn":
            reports.warn(findings)

    # ---- the run

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker of xdist has found."""
        if text := getattr(node, "workeroutput", {}).get(_WORKER):
            self._collected.merge(text)

    pytest_testnodedown = pytest.hookimpl(optionalhook=True)(pytest_testnodedown)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._ignores is not None:
            self._note_rules(self._ignores, passed=True)
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_WORKER] = self._collected.to_text()
        elif self._watches:
            self._conclude(is_whole=_is_whole(session))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._told:
            terminalreporter.section("N+1 (perfkit)")
            for line in self._told:
                terminalreporter.write_line(line)

    def _conclude(self, *, is_whole: bool) -> None:
        found, baseline = self._collected.findings, self._baseline
        if self._sarif is not None:
            write_sarif(self._sarif, found, root=self._root, known=None if baseline is None else baseline.known)
            self._told.append(f"{_counted(len(found), 'finding')} in {self._shown(self._sarif)}")
        for rule in sorted(self._collected.over):
            self._told.append(f"over, and still found: ignore {rule}")
        if is_whole:
            self._told += [f"met nothing, and can go: ignore {rule}" for rule in self._collected.unused]
        if baseline is None or self._baseline_file is None:
            return
        new = baseline.left(found)
        if self._updates:
            baseline.write(self._baseline_file, keep_unseen=not is_whole)
            gone = f", {len(baseline.stale)} gone" if is_whole else ""
            self._told.append(f"{self._shown(self._baseline_file)} written: {len(new)} new{gone}")
            return
        self._told.append(f"{_counted(len(new), 'finding')} new, {len(found) - len(new)} known")
        if is_whole and baseline.stale:
            self._told.append(f"known in {self._shown(self._baseline_file)} and not found any more:")
            self._told += [f"    {key}" for key in baseline.stale]

    def _read_baseline(self) -> Baseline | None:
        if self._baseline_file is None:
            if self._updates:
                raise pytest.UsageError("--perfkit-update-baseline: give --perfkit-baseline=FILE too")
            return None
        if self._updates and not self._baseline_file.exists():
            return Baseline()
        try:
            return Baseline.read(self._baseline_file)
        except LoadingError as wrong:
            again = "mend it, or remove it and run once with --perfkit-update-baseline"
            advice = f"; {again}" if self._baseline_file.exists() else ": --perfkit-update-baseline makes it"
            raise pytest.UsageError(f"{wrong}{advice}") from None

    def _read_paths(self) -> list[Path]:
        paths: list[Path] = self._config.getini("perfkit_paths")
        if missing := [self._shown(path) for path in paths if not path.exists()]:
            raise pytest.UsageError(f"perfkit_paths: there is no {', '.join(missing)}")
        return paths

    def _is_looked_at(self, item: pytest.Item) -> bool:
        return not self._paths or any(item.path.is_relative_to(path) for path in self._paths)

    def _file(self, option: str) -> Path | None:
        if given := self._config.getoption(option):
            return Path(self._config.invocation_params.dir, given)
        if written := self._config.getini(option):
            return Path(self._root, written)
        return None

    def _shown(self, file: Path) -> str:
        return str(file.relative_to(self._root) if file.is_relative_to(self._root) else file)


@contextmanager
def _watching(item: pytest.Function, watched: Watched, *, counts: bool, finds: bool) -> Iterator[None]:
    """Inside, whatever calls the body of the test opens windows around it."""
    has_examples = getattr(item.obj, "is_hypothesis_test", False)
    holder, name = (item.obj.hypothesis, "inner_test") if has_examples else (item, "obj")
    body = getattr(holder, name)
    setattr(holder, name, _watched(body, functools.partial(_windows, watched, counts=counts, finds=finds)))
    try:
        yield
    finally:
        setattr(holder, name, body)


@contextmanager
def _windows(watched: Watched, *, counts: bool, finds: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if counts:
            watched.counts.append(stack.enter_context(counting()))
        if finds:
            watched.windows.append(stack.enter_context(detect()))
            stack.enter_context(requests_apart())
        yield


def _watched(body: Callable[..., Any], windows: Callable[[], Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(body):

        @functools.wraps(body)
        async def watched_async(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            with windows():
                return await body(*args, **kwargs)

        return watched_async

    @functools.wraps(body)
    def watched(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with windows():
            return body(*args, **kwargs)

    return watched


def _own_ignores(rules: list[Ignore]) -> Ignores:
    try:
        return Ignores(*rules, models=mapped_classes())
    except UnknownPath as wrong:
        told = f"perfkit_ignore: {wrong}"
    pytest.fail(told, pytrace=False)  # outside, else its report begins with the lines that raised it


def _begin_again(item: pytest.Function) -> None:
    """Let a test of a class have an instance of its own in its second run, as every test has."""
    if item.cls is not None:
        for name in ("_instance", "_obj"):
            vars(item).pop(name, None)


def _failure(findings: list[Finding], root: Path) -> str:
    told = str(NPlusOneFound(findings)).strip().replace(f"{root}/", "")
    path = findings[0].path
    return (
        f"{told}\n\nIf it is meant: @pytest.mark.perfkit_ignore({path!r}, reason=…); "
        f"if it was there before: --perfkit-update-baseline."
    )


def _ignore(_: pytest.Item, *args: Any, **kwargs: Any) -> Ignore:
    return ignore(*args, **kwargs)


def _at_most(_: pytest.Item, n: int) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise ValueError(f"max_queries({n!r}): give how many statements the test may run")
    return n


def _scales(item: pytest.Item, scale: tuple[int, int] = SCALES) -> tuple[int, int]:
    if not isinstance(scale, tuple | list) or len(scale) != 2 or not 0 < scale[0] < scale[1]:
        raise ValueError(f"constant_queries(scale={scale!r}): give two numbers of rows, the smaller one first")
    if "scale" not in getattr(item, "fixturenames", ()):
        raise ValueError("constant_queries: let the test, or a fixture that makes its rows, ask for `scale`")
    if "scale" in getattr(getattr(item, "callspec", None), "params", {}):
        raise ValueError("constant_queries: `scale` is parametrized, and is to come from the marker")
    return scale[0], scale[1]


_USAGE = {
    "perfkit_ignore": 'perfkit_ignore("Bin.customer", reason="…", at="…", until="2027-01-31"), the last two if needed',
    "max_queries": "max_queries(3)",
    "constant_queries": "constant_queries or constant_queries(scale=(2, 7))",
}
_CHECKS: dict[str, Callable[..., object]] = {
    "perfkit_ignore": _ignore,
    "max_queries": _at_most,
    "constant_queries": _scales,
}


def _ignores_at(name: str) -> Ignores:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as wrong:
        raise pytest.UsageError(f"perfkit_ignores = {name}: {wrong}") from None
    if not isinstance(found, Ignores):
        raise pytest.UsageError(f"perfkit_ignores = {name}: is no perfkit.loading.Ignores")
    return found


def _is_whole(session: pytest.Session) -> bool:
    """Whether every test of the project has run and passed: else what was not found may still be there."""
    config, option = session.config, session.config.option
    chosen = config.args_source is config.ArgsSource.ARGS
    chosen = chosen or any(getattr(option, name, None) for name in ("keyword", "markexpr", "deselect", "lf"))
    return not chosen and not session.shouldstop and not session.shouldfail and not session.testsfailed


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
