"""A page as others expect to see it: a Link header, a Relay connection, a list in Stripe's manner."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

from perfkit.errors import PagingDeclarationError
from perfkit.paging.page import Page

_POSITIONS = frozenset({"after", "before", "last"})
_NO_URI = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]")


class Between(Protocol):
    """A page, or what was kept of one: it knows the cursors of what is around it."""

    @property
    def next(self) -> str | None: ...
    @property
    def previous(self) -> str | None: ...


def link_header(page: Between, url: object) -> str:
    """The value of a Link header (RFC 8288) for a page that `url` showed: next, prev, first and last.

    Its query takes `after`, `before` and `last`, as `keyset` does; all else in it stays. Whatever may not stand in a
    URI is encoded, so that no path or query ends its link. A response model with `next` and `previous` does for the
    page, such as one that a cached function has returned.
    """
    places: dict[str, dict[str, str]] = {
        **({} if page.next is None else {"next": {"after": page.next}}),
        **({} if page.previous is None else {"prev": {"before": page.previous}}),
        "first": {},
        "last": {"last": "true"},
    }
    # Starlette decodes the path of request.url, `>` and all
    parts = urlsplit(str(url))._replace(fragment="")
    query = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.split("=")[0]) not in _POSITIONS]
    return ", ".join(
        f'<{_uri(parts._replace(query="&".join([*query, *filter(None, [urlencode(place)])])).geturl())}>; rel="{rel}"'
        for rel, place in places.items()
    )


def _uri(text: str) -> str:
    """`text` with what may not stand in a URI encoded; what is encoded already stays."""
    return _NO_URI.sub(lambda found: quote(found[0], safe="", errors="replace"), text)


def connection(page: Page[Any], node: Callable[[Any], Any] = lambda item: item) -> dict[str, Any]:
    """A page as a Relay connection: edges with cursors, and pageInfo.

    Of the side that a page came from, the flag is true: Relay lets a server say what it knows without asking again.
    """
    cursors = [page.cursor(place) for place in range(len(page))]
    return {
        "edges": [{"cursor": cursor, "node": node(item)} for cursor, item in zip(cursors, page.items, strict=True)],
        "pageInfo": {
            "hasNextPage": page.has_next,
            "hasPreviousPage": page.has_previous,
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def connection_arguments(
    *, first: int | None = None, after: str | None = None, last: int | None = None, before: str | None = None
) -> dict[str, Any]:
    """What `keyset` takes, from the arguments of a Relay connection.

    Raises:
        PagingDeclarationError: neither `first` nor `last`, both, or one with the other's cursor.
    """
    if (first is None) == (last is None):
        raise PagingDeclarationError("give first=, with after= if you like, or last=, with before= if you like.")
    if (first is None and after is not None) or (last is None and before is not None):
        raise PagingDeclarationError("first= goes with after=, and last= with before=.")
    if first is not None:
        return {"size": first, "after": after}
    return {"size": last, "before": before, "last": before is None}


def listing(page: Page[Any], url: str, data: Callable[[Any], Any] = lambda item: item) -> dict[str, Any]:
    """A page as a list in the manner of Stripe; `has_more` is of the direction in which it was read."""
    return {
        "object": "list",
        "url": url,
        "has_more": page.has_previous if page.is_backward else page.has_next,
        "data": [data(item) for item in page.items],
        "next": page.next,
        "previous": page.previous,
    }
