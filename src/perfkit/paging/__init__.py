"""Pages that lose no row and cost the same at any depth.

`keyset(session, statement, size=50, after=cursor)` gives the rows after a position; `akeyset` is its twin for an
AsyncSession. `Cursors` signs positions, `Page` is what comes back. `offset` and `aoffset` give pages by number, and
`exact`, `capped`, `estimated`, `cached` and `carried` count what is on all of them. `link_header`, `connection` and
`listing` show a page as others expect it. `export` and `aexport` walk
through everything in chunks, and `split` cuts it into parts for several workers.
`assert_seekable` fails a test where the deepest page reads more than itself, and `suggest_index` names what is missing.
"""

from perfkit.paging.count import cached, capped, carried, estimated, exact
from perfkit.paging.cursor import Cursors
from perfkit.paging.explain import PageCost, assert_seekable, explain_page, suggest_index
from perfkit.paging.export import Progress, aexport, export, split
from perfkit.paging.keyset import akeyset, keyset
from perfkit.paging.offset import NumberedPage, aoffset, offset
from perfkit.paging.page import Page, Total
from perfkit.paging.shapes import connection, connection_arguments, link_header, listing

__all__ = [
    "Cursors",
    "NumberedPage",
    "Page",
    "PageCost",
    "Progress",
    "Total",
    "aexport",
    "akeyset",
    "aoffset",
    "assert_seekable",
    "cached",
    "capped",
    "carried",
    "connection",
    "connection_arguments",
    "estimated",
    "exact",
    "explain_page",
    "export",
    "keyset",
    "link_header",
    "listing",
    "offset",
    "split",
    "suggest_index",
]

for _public in (
    *(Cursors, NumberedPage, Page, PageCost, Progress, Total),
    *(akeyset, aoffset, cached, capped, carried, estimated, exact, keyset, offset),
    *(connection, connection_arguments, link_header, listing, aexport, export, split),
    *(assert_seekable, explain_page, suggest_index),
):
    _public.__module__ = __name__
