"""pytest's door to perfkit: its options and markers, and nothing of perfkit itself before one of them is used.

pytest imports this file in every run of every suite in whose environment perfkit is. It stands outside the package
because importing any part of that imports SQLAlchemy, and would come before coverage begins to measure.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

SCALE = pytest.StashKey[int]()
"""How many rows a test marked with `constant_queries` is to make in the present run."""

MODES = ("off", "warn", "fail")
MARKERS = {
    "max_queries": "max_queries(n): fail if the test's body runs more than n statements (perfkit)",
    "constant_queries": "constant_queries(scale=(2, 7)): run the test with each value of the fixture `scale`, and fail "
    "if a statement runs more often with the larger one (perfkit)",
    "perfkit_ignore": "perfkit_ignore(path, reason=…, at=…, until=…): leave out what --perfkit-n1 finds of `path` in "
    "this test",
}
_COUNTING = frozenset({"max_queries", "constant_queries"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, and the same in the project's settings."""
    group = parser.getgroup("perfkit", "N+1 (perfkit)")
    group.addoption(
        "--perfkit-n1",
        choices=MODES,
        help="look for N+1 in the body of each test, and let it fail or warn",
    )
    group.addoption("--perfkit-baseline", metavar="FILE", help="findings that are known: only others count")
    group.addoption(
        "--perfkit-update-baseline", action="store_true", help="write what is found to the baseline; nothing fails"
    )
    group.addoption("--perfkit-sarif", metavar="FILE", help="write what is found as SARIF 2.1.0")
    parser.addini("perfkit_n1", "the same as --perfkit-n1", default="off")
    parser.addini("perfkit_baseline", "the same as --perfkit-baseline, from the root of the project", default="")
    parser.addini("perfkit_sarif", "the same as --perfkit-sarif, from the root of the project", default="")
    parser.addini("perfkit_paths", "folders and files whose tests are looked at, if not all", type="paths", default=[])
    parser.addini("perfkit_ignores", "where your perfkit.loading.Ignores are, as app.perf:IGNORED", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers; load the rest if an option asks for it."""
    for text in MARKERS.values():
        config.addinivalue_line("markers", text)
    mode = config.getoption("perfkit_n1") or config.getini("perfkit_n1")
    if mode not in MODES:
        raise pytest.UsageError(f"perfkit_n1 = {mode!r}: give one of {', '.join(MODES)}")
    if mode != "off" or config.getoption("perfkit_update_baseline") or config.getoption("perfkit_sarif"):
        _load(config)
    elif config.getoption("perfkit_baseline") and config.getoption("perfkit_n1") is None:
        raise pytest.UsageError("--perfkit-baseline: nothing is looked for without --perfkit-n1=fail or =warn")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load the rest if a test asks for it."""
    if not _COUNTING.isdisjoint(_marks(items)):
        _load(config)


def _marks(items: Iterable[pytest.Item]) -> Iterator[str]:
    """Names of the marks of tests and of what they stand in; each node is looked at once, 0.3 µs for a test."""
    seen: set[int] = set()
    for item in items:
        node: Any = item
        while node is not None and id(node) not in seen:
            seen.add(id(node))
            yield from (mark.name for mark in node.own_markers)
            node = node.parent


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """How many rows to make, in a test that is marked with `constant_queries`."""
    value: int | None = request.node.stash.get(SCALE, None)
    if value is None:
        raise pytest.UsageError("the fixture `scale` is for tests that are marked with constant_queries")
    return value


def _load(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("perfkit-run"):
        plugin = importlib.import_module("perfkit.testing.plugin")
        config.pluginmanager.register(plugin.Plugin(config, SCALE), "perfkit-run")
