"""How results of one function are kept: for how long, when they are loaded again before that, how large they may be."""

from __future__ import annotations

from collections.abc import Callable, Sized
from math import log
from typing import Any, NamedTuple

from perfkit.cache.raised import Raised
from perfkit.codec.own import OWN

_EMPTY = (list, tuple, dict, set, frozenset)


class Limits(NamedTuple):
    """How old a result may be that is not current, and how long a caller waits for one that is; in seconds."""

    stale_s: float = 0.0
    fail_safe_s: float = 0.0
    soft_s: float | None = None
    hard_s: float | None = None


NO_LIMITS = Limits()


class Keeping(NamedTuple):
    """What the policy of a function says of its results; fractions and factors as in `Policy`.

    `is_shared`: one process loads for all.
    """

    ttl_ms: int
    max_bytes: int
    jitter: float = 0.0
    early: float = 0.0
    negative_ms: int | None = None
    compress_above: int | None = None
    verify: float = 0.0
    is_shared: bool = False

    def life_ms(self, value: Any, chance: Callable[[], float]) -> int:
        """For how long `value` is kept."""
        is_negative = self.negative_ms is not None and _is_negative(value)
        life_ms = min(self.negative_ms or self.ttl_ms, self.ttl_ms) if is_negative else self.ttl_ms
        if not self.jitter:
            return life_ms
        return max(1, int(life_ms * (1.0 - self.jitter * chance())))

    def until_due_ms(self, life_ms: int, took_us: int, chance: Callable[[], float]) -> float:
        """The age at which a process that holds such an entry looks at the one in the store again."""
        life_ms = min(life_ms, self.ttl_ms)
        return life_ms - self._ahead_ms(took_us, chance) if self.early else life_ms

    def is_due(self, age_ms: int, life_ms: int, took_us: int, chance: Callable[[], float]) -> bool:
        """Whether a caller who finds an entry of this age, good for `life_ms`, shall load it again.

        The nearer the end and the longer a load takes, the likelier, so that one of many callers does so in time:
        XFetch, from Vattani, Chierichetti and Lowenstein, "Optimal probabilistic cache stampede prevention", VLDB 2015.
        """
        if not self.early or not 0 <= age_ms <= life_ms:  # another clock than ours has made that age
            return False
        return self._ahead_ms(took_us, chance) >= life_ms - age_ms

    def _ahead_ms(self, took_us: int, chance: Callable[[], float]) -> float:
        return took_us / 1000 * self.early * -log(1.0 - chance())


def _is_negative(value: Any) -> bool:
    """Whether it says that there is nothing."""
    if value is None or type(value) is Raised:
        return True
    return (type(value) in _EMPTY or type(value) in OWN) and isinstance(value, Sized) and not len(value)
