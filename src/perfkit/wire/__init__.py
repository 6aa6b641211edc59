"""Commands to Redis or Valkey, one server or a cluster, over three kinds of waiting.

Every answer carries the *epoch* of the server that gave it: its replication id, which changes with each restart and
each promotion. It belongs to a connection and not to a client: two connections of one client may speak to two
servers while a failover is under way. A restart cuts every connection, so no answer from after it can bear the id from
before. A server that becomes a replica by hand may leave connections open; so each connection asks again once a second,
in the same round trip as its next command, and replicas are refused.

    answers     what goes there and comes back, and what can be wrong with it
    addresses   URLs
    breaker     nobody waits for a server that has just failed somebody
    deadlines   how long an answer may take, where no event loop says so
    nodes       the connections to one server: blocking, and on event loops
    wires       one server behind those
    cluster     many servers behind those: who has which slot, and what to do when that changes
"""
