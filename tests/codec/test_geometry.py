"""Geometries: elements as the database sent them, shapes with every coordinate and their SRID."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import shapely
from geoalchemy2 import WKBElement, WKTElement
from geoalchemy2.elements import RasterElement
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import translate

from perfkit.codec import Codec
from perfkit.errors import Unpackable

codec = Codec()
POINT = shapely.Point(24.94, 60.17)

ELEMENTS = [
    WKBElement(shapely.to_wkb(POINT), srid=4326),
    WKBElement(shapely.to_wkb(POINT), srid=-1, extended=False),
    WKBElement(shapely.to_wkb(shapely.set_srid(POINT, 3067), include_srid=True)),
    WKBElement(shapely.to_wkb(POINT, hex=True), srid=4326),
    WKTElement("POINT(24.94 60.17)", srid=4326),
    WKTElement("SRID=4326;POINT(24.94 60.17)"),
]


def facts(element):
    return type(element), element.data, type(element.data), element.srid, element.extended


@pytest.mark.parametrize("element", ELEMENTS, ids=map(str, range(len(ELEMENTS))))
def test_an_element_keeps_its_data_and_what_it_says_of_them(element):
    """Also which of the two spellings of its data it had."""
    (back,) = codec.unpack(codec.pack([element]))

    assert facts(back) == facts(element)
    assert back == element


numbers = st.floats(allow_nan=False, allow_infinity=False)
places = st.tuples(numbers, numbers) | st.tuples(numbers, numbers, numbers)
points = st.builds(shapely.Point, places)
lines = st.integers(2, 3).flatmap(
    lambda width: st.lists(st.tuples(*[numbers] * width), min_size=2, max_size=5).map(shapely.LineString)
)
holed = shapely.box(0, 0, 9, 9).difference(shapely.box(2, 2, 4, 4))
corners = st.integers(-99, 99)
boxes = st.builds(lambda x, y: translate(holed, x, y), corners, corners)
empty = st.sampled_from([shapely.Point(), shapely.LineString(), shapely.Polygon(), shapely.MultiPoint()])
shapes = st.recursive(
    points | lines | boxes | empty,
    lambda inner: st.lists(inner, max_size=3).map(shapely.GeometryCollection),
    max_leaves=5,
)


@given(shapes, st.sampled_from([0, 4326, 3067]))
def test_a_shape_comes_back_with_every_coordinate(shape, srid):
    """Bit by bit, with its kind, its third dimension and its SRID."""
    before = shapely.set_srid(shape, srid)

    after = codec.unpack(codec.pack([before]))[0]

    assert (type(after), shapely.get_srid(after), after.has_z) == (type(before), srid, before.has_z)
    assert after.wkb == before.wkb


def test_a_ring_stays_a_ring():
    """WKB has no word for it."""
    ring = shapely.set_srid(shapely.LinearRing([(0, 0), (1, 0), (1, 1)]), 4326)

    after = codec.unpack(codec.pack(ring))

    assert (type(after), after.wkb, shapely.get_srid(after)) == (type(ring), ring.wkb, 4326)


def test_many_kinds_at_once():
    """Every kind shapely has, with holes and parts."""
    hole = shapely.box(0, 0, 9, 9).difference(shapely.box(1, 1, 2, 2))
    before = [
        hole,
        shapely.MultiPoint([(1, 2), (3, 4)]),
        shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]]),
        shapely.MultiPolygon([hole, shapely.box(20, 20, 21, 21)]),
        shapely.Point(math.nan, 1.0),
    ]

    assert [shape.wkb for shape in codec.unpack(codec.pack(before))] == [shape.wkb for shape in before]


@pytest.mark.parametrize("element", [WKBElement(memoryview(shapely.to_wkb(POINT)), 4326), RasterElement(b"\0" * 80)])
def test_what_would_come_back_as_another_type_is_refused(element):
    """A memoryview belongs to somebody's buffer; a raster is no geometry."""
    with pytest.raises(Unpackable):
        codec.pack([element])


def test_collections_deeper_than_any_map_are_refused_when_packed_too():
    """What could not be read back is not written."""
    deep = POINT
    for _ in range(20):
        deep = shapely.GeometryCollection([deep])

    with pytest.raises(Unpackable, match="collections more than 16 deep"):
        codec.pack(deep)


def test_neither_package_is_imported_before_its_first_value():
    """Importing perfkit stays light, and works without them."""
    program = (
        "import sys; from perfkit.codec import Codec; c = Codec(); c.unpack(c.pack([1, (2,)]));"
        "print([name for name in ('shapely', 'geoalchemy2', 'pydantic') if name in sys.modules])"
    )

    world = {"PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", program], env=world, check=True, capture_output=True, text=True)

    assert told.stdout.strip() == "[]"


def test_without_geoalchemy2_the_command_to_run_is_said():
    """A shape can only be packed where both packages are."""
    program = (
        "import sys; sys.modules['geoalchemy2.elements'] = None; import shapely; from perfkit.codec import Codec; "
    )

    world = {"PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", f"{program} Codec().pack(shapely.Point(1, 2))"],
        env=world,
        check=False,
        capture_output=True,
        text=True,
    )

    last = told.stderr.strip().splitlines()[-1]
    assert last == "perfkit.errors.MissingExtra: packing a geometry needs geoalchemy2: pip install 'perfkit[geo]'"
