"""Cached queries that are never stale after a commit."""

from perfkit.cache.cache import Cache as Cache
from perfkit.cache.cache import CacheStats as CacheStats
from perfkit.cache.found import FoundRows as FoundRows
from perfkit.cache.found import rows as rows
from perfkit.cache.memory import MemoryStore as MemoryStore
from perfkit.cache.policy import Policy as Policy
from perfkit.cache.policy import Reason as Reason
from perfkit.cache.store import Seen as Seen
from perfkit.cache.store import Store as Store
from perfkit.cache.tags import TagSource as TagSource

__all__ = ["Cache", "CacheStats", "FoundRows", "MemoryStore", "Policy", "Reason", "Seen", "Store", "TagSource", "rows"]

for _public in (Cache, CacheStats, FoundRows, MemoryStore, Policy, Reason, Seen, Store, rows):
    _public.__module__ = __name__
del _public
