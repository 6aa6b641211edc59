"""How packed bytes are laid out.

Three forms, told apart by the first byte:

    1  root                                          msgpack of the value; scalars it does not know are ext types
    2  [[number, kind, rows], …, root]               objects by kind, then the value with references to them
    4  [entities, order, root]                       what graphs.py says; root is one of the two above

An object is what has to be made of parts: a tuple, a set, a row, an instance. All objects of one kind that stand at the
same height (1 + the height of what they hold) are one batch of plain rows, and batches are written lowest first. So
reading is one call into C for each batch and one function call for each object, no function calls itself, and an object
is complete before anything refers to it, as tuples and the members of sets must be.

Each object is referred to once. Bytes that refer to one twice are refused: ten levels of two references each would be
a thousand objects to whoever walks the value.
"""

from __future__ import annotations

import struct

PLAIN, OBJECTS, GRAPH = b"\x01", b"\x02", b"\x04"
MAX_DEPTH = 100  # far below what the stack bears; msgpack's own packer stops at 511
MAX_ROWS = 2**16  # in one batch, as two bytes of a reference count them
MAX_BATCHES = 4096  # hash() of a chain of tuples calls itself once for each

REF, SPAN, MEMBER, FLAG, ENTITY_REF, ENTITY_REFS = range(1, 7)
"""Ext codes that point into tables: an object, objects side by side, a member of an Enum, a Flag, entities."""
PLACE = struct.Struct(">HH")  # batch, place in it
PLACES = struct.Struct(">HHI")  # batch, first place, how many

TUPLE, SET, FROZENSET = range(3)
"""Kinds of objects that need no class."""
