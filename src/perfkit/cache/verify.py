"""Whether what the cache answers is what the database would: asked again for some hits, or for all in shadow.

Two results that were loaded under the same versions, which still hold after the second load, must be equal. In
`strict` nothing else can be: a writer marks its tags before its change becomes visible. In `committed` a load may see
a commit whose bump is still on its way, and in `ttl` nothing is promised but the age: there, the count measures.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from perfkit.cache.apart import load_apart
from perfkit.cache.call import Call
from perfkit.cache.read import Filled, Hit, Kept, Shadowed
from perfkit.codec import Graph
from perfkit.errors import Unreadable

_log = logging.getLogger("perfkit.cache")


async def in_shadow(call: Call) -> Shadowed:
    """The function's own answer, whatever is kept; and a look at whether that would have been the same."""
    hit = await call.looked_up()
    answer = await call.refill()
    if hit is not None:
        await _compare(call, hit.kept, answer)
    return Shadowed(answer.value)


async def sampled(call: Call) -> Hit | None:
    """A hit like any other, while the same is loaded in the background, to see whether it is. None: there is none."""
    hit = await call.looked_up()
    if hit is not None:
        kept = hit.kept
        load_apart(call, refresh=True, then=lambda its, answer: _compare(its, kept, answer))
    return hit


async def recheck(call: Call) -> bool | None:
    """Whether what is kept is what the database says; None if nothing is, or it was written meanwhile.

    Raises:
        whatever the function raises
    """
    hit = await call.looked_up()
    if hit is None:
        return None
    answer = await call.refill()
    return _judge(call, hit.kept, answer, await call.looked_up())


async def _compare(call: Call, kept: Kept, answer: Filled) -> None:
    _judge(call, kept, answer, await call.looked_up())


def _judge(call: Call, kept: Kept, answer: Filled, now: Hit | None) -> bool | None:
    tally, name = call.declared.tally, call.declared.keys.name
    if answer.kept is None or now is None or not kept.bearing == answer.kept.bearing == now.kept.bearing:
        return None  # something was written meanwhile, and both may be right
    tally.add("verified")
    if kept.payload == answer.kept.payload:
        return True
    if _are_same(call.codec.unpack(kept.payload), call.codec.unpack(answer.kept.payload), call):
        return True
    tally.add("violation")
    call.declared.happened("violation")
    _log.error(
        "%s: what was kept under %r is not what the database says, and nothing was written that perfkit saw. Was it "
        "written by something else, or does the function depend on more than its arguments?",
        name,
        call.question.key.decode(errors="replace"),
    )
    return False


def _are_same(was: Any, is_now: Any, call: Call) -> bool:
    if type(was) is Graph and type(is_now) is Graph:
        try:
            (was, had), (is_now, has) = was.plainly(), is_now.plainly()
        except Unreadable:  # not what the function gave a moment ago
            return False
        if had != has:
            return False
    return bool(was == is_now) or _are_same_in_other_order(was, is_now, call)


def _are_same_in_other_order(was: Any, is_now: Any, call: Call) -> bool:
    # without ORDER BY, rows come as they like
    if not isinstance(was, list) or not isinstance(is_now, list):
        return False
    return Counter(map(call.codec.pack, was)) == Counter(map(call.codec.pack, is_now))
