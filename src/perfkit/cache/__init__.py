"""Cached queries that are never stale after a commit."""

from typing import TYPE_CHECKING, Any

from perfkit.cache.cache import Cache as Cache
from perfkit.cache.events import CacheEvent as CacheEvent
from perfkit.cache.explain import ExplainedTag as ExplainedTag
from perfkit.cache.explain import Explanation as Explanation
from perfkit.cache.explain import Peeked as Peeked
from perfkit.cache.found import FoundRows as FoundRows
from perfkit.cache.found import rows as rows
from perfkit.cache.memory import MemoryStore as MemoryStore
from perfkit.cache.older import OlderAnswer as OlderAnswer
from perfkit.cache.policy import Own as Own
from perfkit.cache.policy import Policy as Policy
from perfkit.cache.reasons import Reason as Reason
from perfkit.cache.recheck import Rechecked as Rechecked
from perfkit.cache.stats import CacheStats as CacheStats
from perfkit.cache.store import Seen as Seen
from perfkit.cache.store import Store as Store
from perfkit.cache.tags import Only as Only
from perfkit.cache.tags import TagSource as TagSource
from perfkit.cache.tags import only as only
from perfkit.cache.warm import Warmed as Warmed
from perfkit.cache.worth import FunctionStats as FunctionStats

if TYPE_CHECKING:
    from perfkit.cache.statements import cached as cached

__all__ = [
    "Cache",
    "CacheEvent",
    "CacheStats",
    "ExplainedTag",
    "Explanation",
    "FoundRows",
    "FunctionStats",
    "MemoryStore",
    "OlderAnswer",
    "Only",
    "Own",
    "Peeked",
    "Policy",
    "Reason",
    "Rechecked",
    "Seen",
    "Store",
    "TagSource",
    "Warmed",
    "cached",
    "only",
    "rows",
]

for _public in (
    Cache,
    CacheEvent,
    CacheStats,
    ExplainedTag,
    Explanation,
    FoundRows,
    FunctionStats,
    MemoryStore,
    OlderAnswer,
    Only,
    Own,
    Peeked,
    Policy,
    Reason,
    Rechecked,
    Seen,
    Store,
    Warmed,
    only,
    rows,
):
    _public.__module__ = __name__
del _public


def __getattr__(name: str) -> Any:
    if name == "cached":  # makes sessions tell of their statements: only for those who want that
        from perfkit.cache.statements import cached

        cached.__module__ = __name__
        return cached
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
