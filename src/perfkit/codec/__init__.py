"""Values as bytes and back: exact, fast, and with no way to run anything that the bytes name.

    >>> codec = Codec()
    >>> codec.unpack(codec.pack({"weights": (1.5, None), 7: {"glass"}}))
    {'weights': (1.5, None), 7: {'glass'}}

A `Codec` takes None, bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta and UUID, in lists, tuples,
dicts, sets and frozensets; SQLAlchemy rows and geometries; and the dataclasses, pydantic models, NamedTuples and Enums
it was made with. If asked to, it takes ORM entities, too: what comes back is a `Graph`, to be put into a session.
`types_in` finds the classes in a return annotation, `shape_of` says in text what they look like.
"""

from perfkit.codec.graphs import Graph
from perfkit.codec.pack import Codec
from perfkit.codec.shapes import is_listed, shape_of, types_in

__all__ = ["Codec", "Graph", "is_listed", "shape_of", "types_in"]

for _public in (Codec, Graph, is_listed, shape_of, types_in):
    _public.__module__ = __name__
