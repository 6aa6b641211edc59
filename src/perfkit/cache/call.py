"""One call of a cached function: what it asks the store, and the function itself for when the answer is not there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from time import perf_counter
from typing import Any, Literal

from sqlalchemy.orm import Session

from perfkit.cache.declared import Declared, carriers_in, session_in
from perfkit.cache.fill import concerns, unfit_to_keep, unfit_to_read, wrote
from perfkit.cache.learned import fit_an_entry
from perfkit.cache.near import ATTENTION
from perfkit.cache.observe import Observation, Statement
from perfkit.cache.proof import Proof
from perfkit.cache.raised import Raised
from perfkit.cache.read import (
    Filled,
    Hit,
    Kept,
    Packing,
    Ports,
    Question,
    asked_first,
    judge,
    look,
    read,
    refill,
)
from perfkit.cache.reasons import Reason
from perfkit.cache.tags import family_of
from perfkit.errors import StoreDown
from perfkit.sqla.changes import Changes, SeeingChanges
from perfkit.sqla.private import noticing_held
from perfkit.sqla.sessions import Astray, Carrier, Strangers, has_criteria, holds_entities_of, reads_uncommitted
from perfkit.sqla.watching import Watcher, Watching
from perfkit.waiting import blocks_a_loop

Manner = Literal["read", "verify", "shadow"]


class Call:
    """One call of a cached function: its question, and the function itself for when the answer is not there."""

    __slots__ = (
        "_carriers",
        "_load_s",
        "_observation",
        "_seen",
        "_unfit",
        "_waited_s",
        "args",
        "began_s",
        "declared",
        "kwargs",
        "manner",
        "ports",
        "proof",
        "question",
    )

    def __init__(
        self,
        declared: Declared,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        carriers: Sequence[Carrier],
        question: Question,
        ports: Ports,
        proof: Proof,
        manner: Manner = "read",
        *,
        explains: bool = False,
        observation: Observation | None = None,
    ) -> None:
        self.proof = proof
        self.declared, self.args, self.kwargs, self._carriers = declared, args, kwargs, carriers
        self.began_s = perf_counter()
        self._load_s: float | None = None
        self._waited_s = 0.0
        self.manner = manner
        self._unfit: Reason | None = None
        self._seen: list[Changes] = []
        self._observation = observation
        if observation is None and (declared.learns or explains):
            self._observation = Observation(declared.runtime, declared.reads, carriers, explains=explains)
        if declared.learns:
            question = question._replace(observing=self._observation)
        self.question, self.ports = question, ports

    def took(self) -> tuple[float, float | None]:
        """Seconds since it was made that were the cache's own; and those of the function, None if it did not run."""
        return perf_counter() - self.began_s - self._waited_s - (self._load_s or 0.0), self._load_s

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the caller waits for a load that is counted elsewhere."""
        began_s = perf_counter()
        try:
            yield
        finally:
            self._waited_s += perf_counter() - began_s

    async def read(self) -> Hit | Filled:
        """The read protocol of this call."""
        return await self.renewed() or await self.asked()

    async def renewed(self) -> Hit | None:
        """What this process holds, if the store says that it is still current."""
        if self.proof.held is not None and not self.ports.arrears:
            with suppress(StoreDown):
                return await self.proof.renewed()
        return None

    async def looked_up(self) -> Hit | None:
        """What the store has, if that is current."""
        if self.ports.arrears:
            return None
        with suppress(StoreDown):
            found = await look(self.question, self.ports.store, self.codec)
            if isinstance(found, Hit):
                self.proof.hold(found.kept, found.value)
                return found
        return None

    async def asked(self) -> Hit | Filled:
        """What the store has, or else what the function gives."""
        answer = await read(self.question, self.load, self.may_keep, self.declared, self.ports)
        if answer.kept is not None:
            self.proof.hold(answer.kept, answer.value)
        return answer

    async def refill(self) -> Filled:
        """The same without looking for an entry."""
        answer = await refill(self.question, self.load, self.may_keep, self.declared, self.ports)
        if answer.kept is not None:
            self.proof.hold(answer.kept, answer.value)
        return answer

    async def report(self, answer: object) -> None:
        """Leave in the store what this process has counted so far, unless `answer` came without it: once is enough."""
        if isinstance(answer, Filled) and answer.unkept is Reason.STORE_DOWN:
            return
        await self.declared.runtime.reports.send(self.ports.store)

    def load(self) -> Any:
        """Call the function, watched; a coroutine of it if it is async."""
        if not self.declared.learns:
            self._unfit = unfit_to_keep(self._carriers, self.declared.families)
        if self.declared.suspends:
            return self._load_later()
        try:
            with self._watched():
                return self.declared.function(*self.args, **self.kwargs)
        except self.declared.policy.keep_errors as error:
            return self.declared.raised(error)

    async def _load_later(self) -> Any:
        try:
            with self._watched():
                return await self.declared.function(*self.args, **self.kwargs)
        except self.declared.policy.keep_errors as error:
            return self.declared.raised(error)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        strangers = Strangers(self._carriers, self._held_by_a_stranger)
        observation = self._observation
        watchers: tuple[Watcher, ...] = (strangers,) if observation is None else (strangers, observation)
        if astray := Astray(self._carriers, self.declared.tables, self._strayed):
            watchers = (*watchers, astray)
        with SeeingChanges() as self._seen, Watching(*watchers), self._attending():
            began_s = perf_counter()
            try:
                yield
            finally:
                self._load_s = (self._load_s or 0.0) + perf_counter() - began_s
            if strangers.go_on():
                self.declared.warn_stranger()

    def _attending(self) -> AbstractContextManager[object]:
        """Inside, what the load is answered from is noticed, and what its sessions have held before."""
        if self._observation is None:
            return nullcontext()
        full = [each for each in self._carriers if isinstance(each, Session) and each.identity_map]
        return _noticing(full, self._observation) if full else ATTENTION

    def _held_by_a_stranger(self, session: Session) -> None:
        if self._observation is not None and self.declared.learns:
            self._observation.held()
        elif holds_entities_of(session, self.declared.families):
            self._unfit = Reason.IDENTITY_MAP

    def _strayed(self) -> None:
        if self._observation is not None and self.declared.learns:
            why = "its session read in another database than its get_bind() says of any mapped class"
            self._observation.refuse(Reason.NOT_WATCHED, why)
        else:
            self._unfit = Reason.NOT_WATCHED

    def is_due(self, kept: Kept) -> bool:
        """Whether this caller shall load again what others still have hits of."""
        ports, keeping = self.ports, self.declared.keeping
        return keeping.is_due(ports.clock.wall_ms() - kept.at_ms, kept.life_ms, kept.took_us, ports.chance)

    @property
    def codec(self) -> Packing:
        return self.declared.codec

    def statements(self) -> list[Statement]:
        """What its load ran, if it was made to explain."""
        return list(self._observation.statements or ()) if self._observation is not None else []

    def verdict(self, value: Any) -> tuple[Reason | None, str]:
        """After a load: why its result is not kept, and more of that for people.

        Raises:
            Unpackable: it cannot be kept, as the call itself would say.
        """
        reason = self._unfit_to_keep()
        if reason is not None:
            observation = self._observation
            return reason, observation.why if observation is not None and reason is observation.unfit else ""
        if self._is_unwanted(value):
            return Reason.UNWANTED, ""
        size, most = len(self.declared.pack(value)), self.declared.keeping.max_bytes
        if size > most:
            return Reason.TOO_LARGE, f"the packed result has {size:,} bytes, and max_bytes is {most:,}"
        return None, ""

    def may_keep(self, value: Any) -> Reason | None:
        """After a load: why its result is not one for others.

        Raises:
            Unpackable: nothing was read, and with tags it could not be kept either.
        """
        reason = self._unfit_to_keep()
        if reason is Reason.NOTHING_READ:
            self.declared.pack(value)
        if reason is None and self._is_unwanted(value):
            return Reason.UNWANTED
        observation = self.question.observing
        if reason is not None and isinstance(observation, Observation) and reason is observation.unfit:
            self.declared.tell(reason, observation.why)
        return reason

    def _is_unwanted(self, value: Any) -> bool:
        keep_if = self.declared.keep_if
        return keep_if is not None and type(value) is not Raised and not keep_if(value)

    def _unfit_to_keep(self) -> Reason | None:
        if self._unfit is not None:
            return self._unfit
        if any(reads_uncommitted(each) for each in self._carriers):
            return Reason.DIRTY_READS
        observation = self._observation if self.declared.learns else None
        families = self._families()
        uncommitted = any(concerns(changes, families) for changes in self._seen)
        if uncommitted or any(wrote(each, families) for each in self._carriers):
            return Reason.LOADER_WROTE
        is_bound = self.declared.has_entities and any(map(has_criteria, self._carriers))
        if observation is None:
            return Reason.CRITERIA if is_bound else None
        if is_bound:
            off = "propagate_to_loaders=False takes it off them, and a relation's and_() is one, too"
            observation.refuse(Reason.CRITERIA, f"{Reason.CRITERIA.value}; {off}")
        if self.declared.has_entities and observation.fills_anew:
            observation.refuse(Reason.VOLATILE, "populate_existing fills what its session holds, which a hit would not")
        if not observation.has_read and not self.declared.families:
            observation.refuse(Reason.NOTHING_READ)
        if not fit_an_entry(observation.observed):
            observation.refuse(Reason.TOO_LARGE)
        if observation.unfit is Reason.SNAPSHOT and self.question.extra is not None:
            known = self.question.known.tags
            self.question.extra.remember(tuple(tag for tag in observation.seen if tag not in known))
        return observation.unfit

    def _families(self) -> frozenset[str] | None:
        """The tables and names on which the result depends; None if they are not all known."""
        given, observation = self.declared.families, self._observation
        if observation is None or not self.declared.learns:
            return given
        if observation.unfit is not None:
            return None
        return given.union(family_of(tag.decode(errors="replace")) for tag in observation.observed)


def took_by(asked: Call | Hit | Reason) -> tuple[float, float | None] | None:
    """What the call took, if it came as far as being one."""
    return asked.took() if isinstance(asked, Call) else None


@contextmanager
def _noticing(sessions: Sequence[Session], observation: Observation) -> Iterator[None]:
    with ATTENTION, ExitStack() as stack:
        for each in sessions:
            stack.enter_context(noticing_held(each, observation.held))
        yield


def ask(
    declared: Declared, args: tuple[Any, ...], kwargs: dict[str, Any], *, refresh: bool = False, explains: bool = False
) -> Hit | Call | Reason:
    """A hit that needed no waiting; or what a protocol run needs; or why the function is called without one.

    Raises:
        UnkeyableArgument: an argument has no text of its own.
        TypeError: the arguments do not fit the function.
    """
    runtime = declared.runtime
    if runtime.is_off:
        return Reason.OFF
    ports = runtime.ports(suspending=declared.suspends)
    if ports is None:
        return Reason.NOT_CONNECTED
    values = declared.keys.bind(*args, **kwargs)
    if declared.when is not None and not declared.when(*args, **kwargs):
        return Reason.CONDITION
    carriers = carriers_in(values)
    if declared.has_entities and session_in(carriers) is None:
        return Reason.NO_SESSION
    database = declared.database(carriers)
    if isinstance(database, Reason):
        if not explains:
            declared.warn_unwatched(carriers)
        return database
    unfit = unfit_to_read(carriers, None if declared.learns else declared.families)
    if unfit is not None:
        return unfit
    tenant = declared.tenant()
    key = declared.key(values, database, tenant)
    proof = Proof(declared, key, values, ports, tenant)
    manner: Manner = "read"
    if declared.is_staged:
        stage = declared.stage_of(key)
        if stage == "off":
            return Reason.STAGE
        if stage == "shadow" and (explains or not refresh):
            manner, refresh = "shadow", True
    if not refresh and declared.keeping.verify and ports.chance() < declared.keeping.verify:
        manner, refresh = "verify", True
    if not refresh and (held := proof.believed()) is not None:
        return held
    question = declared.question(key, values)
    if ports.instant is None:
        if not declared.suspends and not declared.warned and blocks_a_loop():
            _warn(declared)
    elif not refresh and not ports.arrears and not declared.keeping.early:
        found = judge(question, ports.instant.read_now(asked_first(question)), declared.codec)
        if isinstance(found, Hit):
            proof.hold(found.kept, found.value)
            return found
    return Call(declared, args, kwargs, carriers, question, ports, proof, manner, explains=explains)


def _warn(declared: Declared) -> None:
    declared.warned = True
    warnings.warn(
        f"{declared.keys.name} is a sync function, called on an event loop: the loop stands still while the store "
        f"is asked. Make it async, or call it through AsyncSession.run_sync.",
        RuntimeWarning,
        stacklevel=5 if declared.quick.is_possible else 4,  # the quick way is a frame of its own
    )
