"""Sentinels: who says which server is the master, and whether it still is.

A master that is cut off from the others does not know that one of its replicas has taken its place, and goes on to
answer whoever still reaches it. So it is asked of the sentinels, and believed if more than half of those that the URL
names say the same; and asked again each second, on which a server that cannot be confirmed counts as down. That master
may have stood still and go on when another has taken its place, so that for a moment some believe one and some the
other: hence nobody uses one that has only just been named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from perfkit.clock import SYSTEM, Clock
from perfkit.wire.addresses import Address
from perfkit.wire.answers import TROUBLE

CONFIRMED_S = 1.0
# For so long after it was named, somebody may use a master: a confirmation, a connection's trust in its server, and as
# much again for what was under way. Who has been named for a shorter time is not used, so that nobody keeps results
# on the new one while a commit is still announced to the old one, of which the new one would never hear.
NAMED_FOR_S = 3.0


def elected(answers: Sequence[object], service: str, of: int) -> Address:
    """The master that more than half of `of` sentinels name, and have named for a while.

    Raises:
        redis.ConnectionError: there is none.
    """
    address, votes = _leading(answers)
    if address is None or 2 * votes <= of:
        raise redis.ConnectionError(
            f"{len(answers)} of {of} sentinels answered, and {votes or 'none'} of them name one master of {service!r}, "
            f"and have for {NAMED_FOR_S:.0f} s: more than half must"
        )
    return address


def _leading(answers: Sequence[object]) -> tuple[Address | None, int]:
    named = Counter(each for each in map(_address, answers) if each is not None)
    return named.most_common(1)[0] if named else (None, 0)


def _address(answer: object) -> Address | None:
    """Whom SENTINEL MASTER names; None if it is no such answer, or has named it only for a moment."""
    if not isinstance(answer, list) or not all(isinstance(each, bytes | str) for each in answer):
        return None
    words = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in answer]
    said = dict(zip(words[::2], words[1::2], strict=False))
    host, port, since_ms = said.get("ip", ""), said.get("port", ""), said.get("role-reported-time", "")
    if not host or not port.isdecimal() or not since_ms.isdecimal() or int(since_ms) < NAMED_FOR_S * 1000:
        return None
    return Address(host, int(port))


class _Asked:
    """What both kinds of sentinels share: whom to ask, and what was answered lately."""

    def __init__(
        self,
        service: str,
        seeds: Sequence[Address],
        make: Callable[..., Any],
        options: Mapping[str, Any],
        clock: Clock = SYSTEM,
    ) -> None:
        self._service, self._seeds, self._make, self._options = service, tuple(seeds), make, options
        self._of = len(self._seeds)
        self._clock = clock
        self._lately: tuple[Address, float] | None = None
        self._question = ("SENTINEL", "MASTER", service)

    def _connection(self, seed: Address) -> Any:
        return self._make(**{**self._options, "host": seed.host, "port": seed.port})

    def _known(self) -> Address | None:
        lately = self._lately
        return lately[0] if lately is not None and self._clock.monotonic() < lately[1] else None

    def _is_decided(self, answers: Sequence[object]) -> bool:
        return 2 * _leading(answers)[1] > self._of

    def _put_last(self, silent: Address) -> None:
        # one that hangs would cost a time-out each second, or all of the time that a caller on an event loop has
        self._seeds = (*(each for each in self._seeds if each != silent), silent)

    def _learn(self, answers: Sequence[object], asked_s: float) -> Address:
        self._lately = None
        address = elected(answers, self._service, self._of)
        self._lately = address, asked_s + CONFIRMED_S
        return address

    @staticmethod
    def _compare(master: Address, host: str, port: int) -> None:
        if (host, port) != master:
            raise redis.ConnectionError(f"{host}:{port} is not the master any more, {master} is")


class BlockingSentinels(_Asked):
    """Asked by sync callers, over connections that are made for the question."""

    def master(self) -> Address:
        """The master, as the sentinels said within the last second.

        Raises:
            redis.ConnectionError: they do not agree on one.
        """
        known = self._known()
        if known is not None:
            return known
        asked_s = self._clock.monotonic()
        answers: list[object] = []
        for seed in self._seeds:
            answers += self._ask(seed)
            if self._is_decided(answers):
                break
        return self._learn(answers, asked_s)

    def confirm(self, connection: Any) -> None:
        """Returns if the connection is one to the master.

        Raises:
            redis.ConnectionError: it is not, or they do not say.
        """
        self._compare(self.master(), connection.host, connection.port)

    def _ask(self, seed: Address) -> list[object]:
        connection, found = self._connection(seed), []
        try:
            connection.send_command(*self._question)
            found = [connection.read_response()]
        except TROUBLE:
            pass
        finally:
            connection.disconnect()
            if not found:
                self._put_last(seed)
        return found


class AsyncioSentinels(_Asked):
    """The same for event loops."""

    async def master(self) -> Address:
        """As `BlockingSentinels.master`."""
        known = self._known()
        if known is not None:
            return known
        asked_s = self._clock.monotonic()
        answers: list[object] = []
        for seed in self._seeds:
            answers += await self._ask(seed)
            if self._is_decided(answers):
                break
        return self._learn(answers, asked_s)

    async def confirm(self, connection: Any) -> None:
        """As `BlockingSentinels.confirm`."""
        self._compare(await self.master(), connection.host, connection.port)

    async def _ask(self, seed: Address) -> list[object]:
        connection, found = self._connection(seed), []
        try:
            await connection.send_command(*self._question)
            found = [await connection.read_response()]
        except TROUBLE:
            pass
        finally:
            if not found:  # given up by its caller, too
                self._put_last(seed)
            await connection.disconnect(nowait=True)
        return found
