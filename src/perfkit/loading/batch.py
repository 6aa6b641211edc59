"""autobatch: the first object that is asked for a lazy attribute loads it for all that came with it.

    one list of N objects, and an attribute of each       1 + N statements become 1 + 1

Nothing of the application changes: what was read for the others waits outside of the session until they are asked
(`sqla.loads`), and is forgotten when it may have changed (`loading.ahead`).

Two hooks: a listener to `do_orm_execute` of sessions that are used in a block, which is public and sees each lazy
load; and a callable in front of an attribute's own, once a batch was read for it, so that siblings are answered without
a statement being built. Sessions are found when a block begins, and when they begin a transaction in one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, Never, ParamSpec, Self, TypeVar, cast

import sqlalchemy
from sqlalchemy import Result, event
from sqlalchemy.orm import InstanceState, ORMExecuteState, RelationshipProperty, Session

from perfkit.loading import ahead
from perfkit.loading.decorating import is_awaited, refuse_unfit, refuse_without_brackets
from perfkit.loading.impossible import refuse_outside_of_a_greenlet
from perfkit.loading.settings import Settings, Stats, Trigger
from perfkit.sqla import loads, private, written

P = ParamSpec("P")
R = TypeVar("R")

OPTION = "perfkit_autobatch"  # of a statement, to say False

_ELSEWHERE = (
    "A block of autobatch() was left in another context than it was entered in, and has batched nothing in this one. "
    "Open it where the statements run: in the function itself, not in a dependency or a fixture that a thread runs."
)

_OFF = Settings()
_settings: ContextVar[Settings | None] = ContextVar("perfkit_autobatch", default=None)
_entered: ContextVar[tuple[tuple[object, Settings | None], ...]] = ContextVar("perfkit_autobatch_entered", default=())
_told: set[str] = set()
_always: list[Settings] = []  # the last one counts, where no block says otherwise


class autobatch:  # noqa: N801 - it is used like a function
    """Batch the lazy loads of a block, of a function, or of the process.

    with autobatch(): …             and of tasks that it starts; of no other thread or task
    @autobatch()                    each call of a function, sync or async
    autobatch.always()              everywhere from now on; `stop()` of what it returns is the undo
    with autobatch.off(): …         not in here

    `trigger` says when a batch is read: at the `"first"` access, at the `"second"` one, or `"adaptive"`: at the first
    as long as at least a quarter of what is read ahead is used. `max_batch` bounds the objects of one batch, and with
    them the rows that wait in memory; the next object behind it reads the next batch.

    Beginning a block costs a look at each live session; outside of blocks, a transaction costs one call.
    """

    def __init__(self, *given: Never, trigger: Trigger = "adaptive", max_batch: int = 2000) -> None:
        refuse_without_brackets("autobatch", given)
        self._own = Settings(trigger=trigger, max_batch=max_batch)

    @classmethod
    def always(cls, *given: Never, trigger: Trigger = "adaptive", max_batch: int = 2000) -> Self:
        """Batch wherever no block says otherwise."""
        if given:
            raise TypeError("autobatch.always() is for the process, and decorates nothing: write `@autobatch()`")
        everywhere = cls(trigger=trigger, max_batch=max_batch)
        if install():
            _always.append(everywhere._own)
        return everywhere

    def stop(self) -> None:
        """Undo `always()`. Twice is the same as once."""
        if self._own in _always:
            _always.remove(self._own)

    @classmethod
    def off(cls, *given: Never) -> Self:
        """Leave the lazy loads of a block, or of a function, as they are."""
        refuse_without_brackets("autobatch.off", given)
        nothing = cls()
        nothing._own = _OFF
        return nothing

    @property
    def stats(self) -> Stats:
        """What has come of it so far."""
        return self._own.stats()

    def __enter__(self) -> Self:
        before = _entered.get()
        _entered.set((*before, (self, _settings.get())))
        _settings.set(self._effective())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entered = _entered.get()
        place = next((place for place in reversed(range(len(entered))) if entered[place][0] is self), None)
        if place is None:
            warnings.warn(_ELSEWHERE, RuntimeWarning, stacklevel=2)
            return
        before, inner = entered[place][1], entered[place + 1 :]
        if inner:  # one that was entered later goes on, and leaves to what was before this one
            inner = ((inner[0][0], before), *inner[1:])
        else:
            _settings.set(before)
        _entered.set((*entered[:place], *inner))

    def _effective(self) -> Settings | None:
        return self._own if self._own is _OFF or install() else None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, each call of which is such a block."""
        refuse_unfit("autobatch()", "with autobatch():", function)
        if is_awaited(function):
            waiting = cast(Callable[..., Any], function)

            @wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await waiting(*args, **kwargs)

            return cast(Callable[P, R], awaited)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return called


def install() -> bool:
    """Be told of sessions that begin, and join those that have; False, with one warning, if SQLAlchemy lacks a name."""
    missing = private.why_not_batched()
    if missing is not None:
        if missing not in _told:
            _told.add(missing)
            warnings.warn(f"autobatch off: SQLAlchemy {sqlalchemy.__version__} has no {missing}", stacklevel=4)
        return False
    if not event.contains(Session, "after_begin", _on_begin):
        event.listen(Session, "after_begin", _on_begin)
    for session in private.live_sessions():
        _join(session)
    return True


def uninstall() -> None:
    """Take away every hook. The next block puts them there again."""
    if event.contains(Session, "after_begin", _on_begin):
        event.remove(Session, "after_begin", _on_begin)
    for session in private.live_sessions():
        if ahead.is_there(session):
            event.remove(session, "do_orm_execute", _on_execute)
            ahead.take_away(session)
    private.take_away(_Quick)
    written.tell_nobody()


def _on_begin(session: Session, transaction: Any, connection: Any) -> None:
    if _current() is None or ahead.is_there(session):
        return
    _join(session)
    if not ahead.is_there(session):
        return
    waiting = ahead.ahead_of(session)

    def look(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, executemany: bool) -> None:
        # the statement that begins the transaction has passed the listeners already
        if not waiting.is_heard and context.execution_options.get(OPTION) is False:
            waiting.leave_alone_from_now()

    event.listen(connection, "before_cursor_execute", look)


def _join(session: Session) -> None:
    """Listen to one session: a listener to all would make each statement of all dearer by two in a hundred.

    Who listens since an earlier block comes before us from now on: only the last one knows what will be sent.
    """
    if not ahead.is_there(session):
        if private.part_listeners(session):
            ahead.ahead_of(session)
            event.listen(session, "do_orm_execute", _on_execute)
    elif loads.are_others(private.listeners_behind(session, _on_execute)) and private.part_listeners(session):
        ahead.ahead_of(session).drop()  # of statements that these have not seen
        event.remove(session, "do_orm_execute", _on_execute)
        event.listen(session, "do_orm_execute", _on_execute)


def _current() -> Settings | None:
    settings = _settings.get()
    if settings is None:
        return _always[-1] if _always else None
    return None if settings is _OFF else settings


def _on_execute(execution: ORMExecuteState) -> Result[Any] | None:
    if not execution.is_select or not execution.is_orm_statement:
        return None
    waiting = ahead.ahead_of(execution.session)
    waiting.until_now()
    if execution.lazy_loaded_from is None and not execution.is_column_load:
        return _leave_alone(execution) if _is_excluded(execution) else None
    question = loads.asked(execution)
    if question is None:
        return None
    refuse_outside_of_a_greenlet(question, waiting.runs)
    settings = _current()
    if settings is None:
        return None
    if waiting.is_left_alone(question.state):
        return _leave_alone(execution)
    if _is_excluded(execution) or _opts_out(question.what):
        return None
    found = waiting.answer(question, settings)
    if found is not None and isinstance(question.what, RelationshipProperty):
        private.put_before(question.state, question.what.key, _Quick.of(question.what))
    return found


def _leave_alone(execution: ORMExecuteState) -> Result[Any]:
    return ahead.ahead_of(execution.session).leave_alone(execution.invoke_statement)


def _is_excluded(execution: ORMExecuteState) -> bool:
    """Whether the statement, or the one for which it is an eager load, asks to be left alone."""
    options: Any = execution.execution_options
    if options.get(OPTION) is False:
        return True
    outer = options.get("sa_top_level_orm_context")
    return outer is not None and getattr(outer, "execution_options", {}).get(OPTION) is False


def _opts_out(what: loads.What) -> bool:
    return isinstance(what, RelationshipProperty) and what.info.get("perfkit", {}).get("autobatch") is False


class _Quick:
    """Stands before what loads a relation lazily, and answers itself where the rows are there."""

    __slots__ = ("original", "relation")

    def __init__(self, relation: RelationshipProperty[Any], original: Callable[..., Any]) -> None:
        self.relation = relation
        self.original = original

    @classmethod
    def of(cls, relation: RelationshipProperty[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """What puts one before `original`, once."""
        return lambda original: original if isinstance(original, cls) else cls(relation, original)

    def __call__(self, state: InstanceState[Any], passive: Any = private.PASSIVE_OFF, **options: Any) -> Any:
        settings = _settings.get()
        is_on = settings is not _OFF if settings is not None else bool(_always)
        if is_on and passive == private.PASSIVE_OFF and not options:
            found = ahead.quick(self.relation, state)
            if found is not loads.Missing.MISSING:
                return found
        return self.original(state, passive, **options)
