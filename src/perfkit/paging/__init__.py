"""Pages that lose no row and cost the same at any depth.

`keyset(session, statement, size=50, after=cursor)` gives the rows after a position; `akeyset` is its twin for an
AsyncSession. `Cursors` signs positions, `Page` is what comes back.
"""

from perfkit.paging.cursor import Cursors
from perfkit.paging.keyset import akeyset, keyset
from perfkit.paging.page import Page, Total

__all__ = ["Cursors", "Page", "Total", "akeyset", "keyset"]

for _public in (Cursors, Page, Total, akeyset, keyset):
    _public.__module__ = __name__
