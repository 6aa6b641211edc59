"""A program, what it should be told, and whether the fix it is told can be pasted.

    @finds(Kind.LAZY_LOAD, "Order.customer")
    def who_ordered(session): ...

Several may be expected; `also` are those which are a matter of opinion. A fix that is an
option is pasted onto each statement that asks for the root of the path, and the program runs
again; any other is evaluated and, if it is a statement, executed. `fixed` is the program as
somebody would write it who follows the advice; `says` is a part of the advice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy import Executable, event, orm
from sqlalchemy.orm import ORMExecuteState, Session

from perfkit.loading import Finding, Kind
from tests.loading.fresh import shop

NAMES = {
    **{name: getattr(sqlalchemy, name) for name in ("select", "func", "text", "bindparam", "tuple_", "exists", "and_")},
    **vars(orm),
    **{name: value for name, value in vars(shop).items() if isinstance(value, type)},
    **{table.name: table for table in shop.Base.metadata.tables.values()},
    "Session": Session,
    "datetime": dt,
    "ids": [1, 2, 3],
    "keys": [(1, 1), (2, 3)],
}


@dataclass(frozen=True)
class Wanted:
    """A finding by its kind or kinds, and its path or paths."""

    kinds: frozenset[Kind]
    paths: frozenset[str]

    def matches(self, finding: Finding) -> bool:
        return finding.kind in self.kinds and (not self.paths or finding.path in self.paths)

    def __str__(self) -> str:
        return f"{'|'.join(sorted(self.kinds))} {'|'.join(sorted(self.paths)) or '*'}"


@dataclass
class Program:
    """A function over a session, and what is to be found in it."""

    run: Callable[..., Any]
    wanted: list[Wanted] = field(default_factory=list)
    also: list[Wanted] = field(default_factory=list)
    fixed: Callable[..., Any] | None = None
    says: Sequence[str] = ()
    paste: bool = True

    @property
    def name(self) -> str:
        return f"{self.run.__module__.rpartition('.')[2]}.{self.run.__name__}"


PROGRAMS: dict[str, Program] = {}


def finds(
    kind: Kind | Sequence[Kind],
    *paths: str,
    also: Sequence[tuple[Kind, str]] = (),
    fixed: Callable[..., Any] | None = None,
    says: str | Sequence[str] = (),
    paste: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The program has a finding of this kind; alternatives of the path are further arguments."""
    kinds = frozenset([kind] if isinstance(kind, Kind) else kind)

    def note(run: Callable[..., Any]) -> Callable[..., Any]:
        program = _program(run)
        program.wanted.append(Wanted(kinds, frozenset(paths)))
        program.also += [Wanted(frozenset([kind]), frozenset([path])) for kind, path in also]
        program.fixed = fixed or program.fixed
        program.says = [*program.says, *([says] if isinstance(says, str) else says)]
        program.paste = program.paste and paste
        return run

    return note


def quiet(run: Callable[..., Any]) -> Callable[..., Any]:
    """The program is as it should be."""
    _program(run)
    return run


def _program(run: Callable[..., Any]) -> Program:
    program = Program(run)
    return PROGRAMS.setdefault(program.name, program)


@dataclass(frozen=True)
class Verdict:
    """What was found of what was wanted."""

    found: list[Finding]
    missed: list[Wanted]
    extra: list[Finding]

    def __str__(self) -> str:
        missed = [f"missed: {each}" for each in self.missed]
        extra = [f"not wanted: {each.kind} {each.path}: {each.sql}" for each in self.extra]
        return "\n".join([*missed, *extra])


def compare(program: Program, findings: Sequence[Finding]) -> Verdict:
    """Each wanted one takes one finding; what nobody takes is extra."""
    left = list(findings)
    found, missed = [], []
    for wanted in program.wanted:
        match = next((each for each in left if wanted.matches(each)), None)
        if match is None:
            missed.append(wanted)
        else:
            left.remove(match)
            found.append(match)
    extra = [each for each in left if not any(wanted.matches(each) for wanted in program.also)]
    return Verdict(found, missed, extra)


@contextmanager
def pasted(findings: Sequence[Finding]) -> Iterator[None]:
    """Any session's statements for the root of a path have the options of its fix."""
    fixes = [(each.path.partition(".")[0], each.fix) for each in findings if each.fix.startswith(".options(")]

    def paste(state: ORMExecuteState) -> None:
        if not (state.is_select or state.is_from_statement) or state.is_relationship_load or state.is_column_load:
            return
        entities = {each.get("entity") for each in state.statement.column_descriptions}
        names = {each.__name__ for entity in entities if isinstance(entity, type) for each in _family(entity)}
        for root, fix in fixes:
            if root in names:
                state.statement = eval(f"statement{fix}", {**NAMES, "statement": state.statement})

    event.listen(Session, "do_orm_execute", paste)
    try:
        yield
    finally:
        event.remove(Session, "do_orm_execute", paste)


def _family(entity: type) -> list[type]:
    return [each.class_ for each in orm.class_mapper(entity).self_and_descendants]


def trouble_of(fix: str, session: Session) -> str | None:
    """Why a fix that is no option does not compile or run; None if it does, or is a decorator or a setting."""
    if fix.startswith((".options(", "@", "#")):
        return None
    try:
        value = eval(fix, {**NAMES, "session": session, "engine": session.get_bind()})
        if isinstance(value, Executable):
            session.execute(value).all()
    except Exception as trouble:  # noqa: BLE001 - whatever is wrong with it is what we want to say
        return f"{fix!r}: {trouble!r}"
    return None
