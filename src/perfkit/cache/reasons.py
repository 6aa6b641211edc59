"""Why a call was answered by the database although its function is cached."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a call was answered by the database although its function is cached, or why its result was not kept."""

    OFF = "inside `with cache.off()`, or through `cache.bypass`"
    NOT_CONNECTED = "the cache was not connected: call connect() and watch() at start-up"
    NOT_WATCHED = "nobody watches the engine of the session (call watch() for it), or it cannot say which that is"
    STORE_DOWN = "the store did not answer, or refused"
    UNSETTLED = "an earlier commit could not be told to the store yet"
    OWN_WRITES = "the session's transaction has written, or is about to write, what the function reads"
    SNAPSHOT = "the session's transaction reads from a snapshot (REPEATABLE READ or SERIALIZABLE)"
    DIRTY_READS = "the session's transaction reads what others have not committed (READ UNCOMMITTED)"
    IDENTITY_MAP = "the session already holds entities of these tables, and would return them as it holds them"
    MARKED = "a writer was between its mark and its bump"
    LOADER_WROTE = "the function itself wrote, or read in a transaction that had written"
    TOO_LARGE = "the packed result exceeds the policy's max_bytes, or depends on more than an entry can name"
    UNREADABLE = "the entry's bytes were not ours, or not of this shape"
    OVERTAKEN = "a writer changed the table while it was being found out on which of its rows the result depends"
    NOTHING_READ = "no statement was seen, so that nobody can tell what the result depends on: give tags"
    UNKNOWN_READS = "what a statement reads cannot be known: a view, a function or SQL text of which nobody has said it"
    VOLATILE = "a statement takes the time, a random number or a lock, or fills what a session holds: for one call"
    OLDER = "it calls a function that was answered by an older result"
    CRITERIA = "with_loader_criteria goes with its entities, and what they load later could not obey it after a hit"
    STAGE = "the function's stage is off, or a part of all keys to which this one does not belong"
    SHADOW = "the function's stage is shadow: the cache was asked, and the database answered"
    NO_SESSION = "its entities need one session to live in, and it was passed none, or several"
    CONDITION = "when= of the function said no to these arguments"
    UNWANTED = "keep_if= of the function said no to this result"
    NOT_JOINED = "the load of another caller failed, or waiting for it would not have ended"
