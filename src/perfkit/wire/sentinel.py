"""Sentinels: who says which server is the master, and whether it still is.

A master that is cut off from the others does not know that one of its replicas has taken its place, and goes on to
answer whoever still reaches it. So it is asked of the sentinels, and believed if more than half of those that the URL
names say the same; and asked again each second, on which a server that cannot be confirmed counts as down. Sentinels
replace a master at the earliest when it has not answered for `down-after-milliseconds`, which has to be longer.
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


def elected(answers: Sequence[object], service: str, of: int) -> Address:
    """The master that more than half of `of` sentinels name.

    Raises:
        redis.ConnectionError: there is none.
    """
    named = Counter(each for each in map(_address, answers) if each is not None)
    address, votes = named.most_common(1)[0] if named else (None, 0)
    if address is None or 2 * votes <= of:
        raise redis.ConnectionError(
            f"{len(answers)} of {of} sentinels answered, and {votes or 'none'} of them name one master of {service!r}: "
            f"more than half must"
        )
    return address


def _address(answer: object) -> Address | None:
    if not isinstance(answer, list) or len(answer) != 2:
        return None
    host, port = (each.decode() if isinstance(each, bytes) else str(each) for each in answer)
    return Address(host, int(port)) if port.isdecimal() else None


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
        self._service, self._seeds, self._make, self._options = service, seeds, make, options
        self._clock = clock
        self._lately: tuple[Address, float] | None = None
        self._question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)

    def _connection(self, seed: Address) -> Any:
        return self._make(**{**self._options, "host": seed.host, "port": seed.port})

    def _known(self) -> Address | None:
        lately = self._lately
        return lately[0] if lately is not None and self._clock.monotonic() < lately[1] else None

    def _learn(self, answers: Sequence[object], asked_s: float) -> Address:
        self._lately = None
        address = elected(answers, self._service, len(self._seeds))
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
        return self._learn([each for seed in self._seeds if (each := self._ask(seed)) is not None], asked_s)

    def confirm(self, connection: Any) -> None:
        """Returns if the connection is one to the master.

        Raises:
            redis.ConnectionError: it is not, or they do not say.
        """
        self._compare(self.master(), connection.host, connection.port)

    def _ask(self, seed: Address) -> object | None:
        connection = self._connection(seed)
        try:
            connection.send_command(*self._question)
            found: object = connection.read_response()
        except TROUBLE:
            return None
        else:
            return found
        finally:
            connection.disconnect()


class AsyncioSentinels(_Asked):
    """The same for event loops."""

    async def master(self) -> Address:
        """As `BlockingSentinels.master`."""
        known = self._known()
        if known is not None:
            return known
        asked_s = self._clock.monotonic()
        answers = [await self._ask(seed) for seed in self._seeds]
        return self._learn([each for each in answers if each is not None], asked_s)

    async def confirm(self, connection: Any) -> None:
        """As `BlockingSentinels.confirm`."""
        self._compare(await self.master(), connection.host, connection.port)

    async def _ask(self, seed: Address) -> object | None:
        connection = self._connection(seed)
        try:
            await connection.send_command(*self._question)
            found: object = await connection.read_response()
        except TROUBLE:
            return None
        else:
            return found
        finally:
            await connection.disconnect(nowait=True)
