"""What a call is answered: by the read protocol, and by the policies of its function around it."""

from __future__ import annotations

from perfkit.cache.apart import load_apart
from perfkit.cache.call import Call
from perfkit.cache.keeping import NO_LIMITS
from perfkit.cache.older import answered, note
from perfkit.cache.read import Filled, Hit, Older, Shadowed
from perfkit.cache.reasons import Reason
from perfkit.cache.verify import in_shadow, sampled

Answer = Hit | Filled | Older | Shadowed | Reason


async def answer_with_policies(call: Call) -> Answer:
    """The answer of a function that has any policy beside how long its results live."""
    declared = call.declared
    if call.manner == "shadow":
        return await in_shadow(call)
    if call.manner == "verify" and (hit := await sampled(call)) is not None:
        return hit
    if declared.limits != NO_LIMITS:
        answer = await answered(call)
        if isinstance(answer, Older):
            note(declared.keys.name, answer)
            return answer
    else:
        answer = await call.read()
    if isinstance(answer, Hit) and call.is_due(answer.kept):
        load_apart(call, refresh=True)
    return answer
