"""Statements that are cached themselves: `select(Bin).options(cached(ttl=60))`.

Each is a call of a cached function whose argument is the statement, by its structure and values, and whose body
executes it. So all that holds of cached functions holds of statements; only, each load is in the session of a caller.

Importing this makes every session tell of its statements, which costs each some microseconds. SQLAlchemy's lists of
listeners may not change while statements are executed, so that is done now and not with the first statement.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Unpack, cast

from sqlalchemy import Result, Select, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import ORMExecuteState, Session, UserDefinedOption

from perfkit.cache.cache import Cache
from perfkit.cache.callers import warn_caller
from perfkit.cache.policy import OF_FUNCTIONS, Own, Policy, check_names, own_policy
from perfkit.cache.served import AT_WATCH, SERVED, Rows, Statements
from perfkit.errors import CacheDeclarationError, NotCached, UnkeyableArgument
from perfkit.sqla.fingerprint import NoFingerprint, fingerprint_of
from perfkit.sqla.private import has_listeners_left, is_legacy_query, require_unique, result_of, wants_unique

# what may be said of an execution without changing what it gives
_HARMLESS = frozenset({"autoflush", "compiled_cache", "logging_token", "prebuffer_rows"})
_APART = ("early", "verify", "soft_timeout", "hard_timeout", *OF_FUNCTIONS)
_OPTIONS = [name for name in Own.__annotations__ if name not in _APART]
MAX_TOLD = 1_000  # names, and why

_told: set[tuple[str, str]] = set()


class Execution:
    """One execution of a statement, as an argument: its identity is what it asks for."""

    def __init__(self, state: ORMExecuteState) -> None:
        """Raises: NoFingerprint."""
        found = fingerprint_of(state.statement)
        self._identity = (*found, *sorted((state.parameters or {}).items()))  # type: ignore[union-attr]  # no list: see _unfit
        self._state = state

    def cache_identity(self) -> object:
        return self._identity

    def execute(self) -> Rows:
        """The database's answer, in the session that asks."""
        result = self._state.invoke_statement()
        is_repeated = wants_unique(result)
        names = [str(each) for each in result.keys()]  # noqa: SIM118 - a result is no mapping. One may be quoted_name
        return is_repeated, names, [tuple(row) for row in (result.unique() if is_repeated else result)]


class CachedStatement(UserDefinedOption):
    """What `cached(…)` gives."""

    def __init__(self, name: str, cache: Cache | None, own: Own) -> None:
        super().__init__()
        self.name, self.cache, self.own = name, cache, own

    def tell(self, why: str) -> None:
        """Warn, once, that the statement is executed as if it had not the option."""
        if (self.name, why) not in _told and len(_told) < MAX_TOLD:
            _told.add((self.name, why))
            warn_caller(f"cached.{self.name} is not cached: {why.removesuffix('.')}.", NotCached)


def cached(name: str = "statement", *, cache: Cache | None = None, **own: Unpack[Own]) -> CachedStatement:
    """An option by which the result of a statement is cached: `select(Bin).where(…).options(cached(ttl=60))`.

    For those who cache statements and not functions. The session executes it as ever; the result is answered by the
    cache, entities and loaded relations included, as long as no commit has changed what it depends on. Its structure,
    its options and its values are its key.

    Args:
        name: what its totals stand under in `cache.stats()`, after `cached.`.
        cache: which one; by default the one that watches the session's engine.
        own: as in `Policy`, but for those that need a load of their own: `early`, `verify` and timeouts.

    Raises:
        CacheDeclarationError: an option that statements do not have, or a value that cannot work.

    >>> from sqlalchemy import column, select
    >>> from perfkit.cache import cached
    >>> statement = select(column("id")).options(cached("bins of today", ttl=60))
    """
    for option in _APART:
        if option in own:
            raise CacheDeclarationError(
                f"cached({option}=…): only functions have this; decorate one with @cache.query."
            )
    if not isinstance(name, str):
        raise CacheDeclarationError(f"cached({name!r}): the name is a text; options have names, as in cached(ttl=60).")
    if not isinstance(cache, Cache | None):
        raise CacheDeclarationError(f"cached(cache={cache!r}): give the Cache itself.")
    try:
        _check(tuple(own.items()))
    except TypeError:  # a value without a hash, which none of the right ones is
        own_policy(Policy(), own)
        raise
    return CachedStatement(name, cache, own)


@lru_cache(maxsize=256)
def _check(own: tuple[tuple[str, object], ...]) -> None:
    """Returns when these are options; remembered, for it may be asked for each statement.

    Raises:
        CacheDeclarationError: one is none, or its value cannot work.
    """
    asked = cast(Own, dict(own))
    check_names(asked, "cached", _OPTIONS)
    own_policy(Policy(), asked)


def _execute(state: ORMExecuteState) -> Result[Any] | None:
    option = next((each for each in state.user_defined_options if isinstance(each, CachedStatement)), None)
    if option is None or not state.is_select or state.is_column_load or state.is_relationship_load:
        return None
    why = _unfit(state)
    if why:
        option.tell(why)
        return None
    statements = _statements_for(state, option)
    if statements is None:
        return None
    try:
        is_repeated, names, rows = statements.execute(option.name, option.own, state.session, Execution(state))
    except (NoFingerprint, UnkeyableArgument) as trouble:
        option.tell(str(trouble))
        return None
    result = _result(state.statement, names, rows)
    if is_repeated:
        require_unique(result)
    return result


def _unfit(state: ORMExecuteState) -> str:
    """Why an execution is not one that can be answered by the cache; empty if it is."""
    if isinstance(state.parameters, list | tuple):
        return "it is executed with many sets of parameters"
    if "bind" in state.bind_arguments:
        return "its engine is chosen for this execution alone"
    if is_legacy_query(state):
        return "it is a Query: give the session a select()"
    if has_listeners_left(state):
        return "a do_orm_execute listener that may change it was registered after the cache began to watch"
    given = {name for name in state.execution_options if not name.startswith("_")} - _HARMLESS
    if given:
        return f"it has execution options that may change its result: {', '.join(sorted(given))}"
    return ""


def _go_last() -> None:
    """Others may change the statement: let them do it first. Those of one session alone are always later."""
    if event.contains(Session, "do_orm_execute", _execute):
        event.remove(Session, "do_orm_execute", _execute)
    event.listen(Session, "do_orm_execute", _execute)


def _statements_for(state: ORMExecuteState, option: CachedStatement) -> Statements | None:
    if option.cache is not None:
        return SERVED.get(option.cache)
    try:
        dialect = state.session.get_bind(**state.bind_arguments).dialect
    except SQLAlchemyError:
        return None
    found = [each for each in list(SERVED.values()) if each.knows(dialect)]
    if len(found) > 1:
        raise CacheDeclarationError(f"{option.name}: several caches watch its engine: cached(cache=…) says which.")
    return found[0] if found else None


def _result(statement: Any, names: list[str], rows: list[tuple[Any, ...]]) -> Result[Any]:
    described = _described(statement)
    columns = [each["name"] for each in described]  # an entity of a subquery has none, and a result tells only names
    if [each for each in columns if each is not None] != names:
        columns = names
    if len(described) != len(columns):
        return result_of(names, None, [False] * len(names), rows)
    # a Bundle stands for its own type
    by_identity = [
        each["expr"] is each.get("entity") or not getattr(each["type"], "hashable", True) for each in described
    ]
    return result_of(columns, [each["expr"] for each in described], by_identity, rows)


def _described(statement: Any) -> list[Any]:
    if not isinstance(statement, Select):
        return []
    try:
        found: list[Any] = statement.column_descriptions
    except AttributeError:  # of `*` and a mapped class SQLAlchemy 2.1 has none
        return []
    return found


_go_last()
AT_WATCH.append(_go_last)
