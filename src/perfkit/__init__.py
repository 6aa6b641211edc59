"""perfkit: fast SQLAlchemy services whose answers stay right.

    Cache, Policy       cached queries that are never stale after a commit (`perfkit.cache`)

Importing this opens no file, socket or thread.
"""

from perfkit.cache import Cache as Cache
from perfkit.cache import Policy as Policy

__all__ = ["Cache", "Policy"]
