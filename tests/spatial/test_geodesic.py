"""Metres on the ellipsoid, without a database."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from perfkit.spatial import Place
from perfkit.spatial.geodesic import metres_between, reach

places = st.builds(Place, st.floats(-180, 180), st.floats(-90, 90))

QUARTER_MERIDIAN_M = 10_001_965.729  # of WGS84, by series for the meridian arc
EQUATOR_DEGREE_M = 6_378_137.0 * math.pi / 180

KNOWN = [
    (Place(0, 0), Place(0, 90), QUARTER_MERIDIAN_M),
    (Place(17, -90), Place(-99, 0), QUARTER_MERIDIAN_M),
    (Place(0, 0), Place(1, 0), EQUATOR_DEGREE_M),
    (Place(179.5, 0), Place(-179.5, 0), EQUATOR_DEGREE_M),
    (Place(180, 45), Place(-180, 45), 0.0),
    (Place(10, 90), Place(-120, 90), 0.0),
]


@pytest.mark.parametrize(("one", "other", "metres"), KNOWN)
def test_distances_that_geometry_gives(one, other, metres):
    """Quarters of meridians, degrees of the equator, the seam, the poles."""
    assert metres_between(one, other) == pytest.approx(metres, abs=1e-3)


def test_the_example_of_the_standard():
    """Flinders Peak to Buninyon, as geodesy courses have it: 54,972.271 m."""
    flinders = Place(144 + 25 / 60 + 29.52440 / 3600, -(37 + 57 / 60 + 3.72030 / 3600))
    buninyon = Place(143 + 55 / 60 + 35.38390 / 3600, -(37 + 39 / 60 + 10.15610 / 3600))

    assert metres_between(flinders, buninyon) == pytest.approx(54_972.271, abs=1e-3)


@given(places, places)
def test_there_is_as_far_as_back(one, other):
    """And never further than half a meridian and a bit, nor less than nothing."""
    there, back = metres_between(one, other), metres_between(other, one)

    assert there == pytest.approx(back, rel=6e-3 if there > 19_900_000 else 1e-9, abs=1e-6)
    assert 0.0 <= there <= 20_020_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Place(0, 0), Place(180, 0)),
        (Place(0, 0.5), Place(179.7, -0.5)),
        (Place(24.94, 60.17), Place(24.94 - 180, -60.17)),
        (Place(0, 30), Place(179.9, -29.9)),
        (Place(0, 90), Place(0, -90)),
    ],
)
def test_nearly_opposite_points_are_about_half_a_meridian_apart(one, other):
    """Where the iteration does not settle, the answer is at most 0.6 % off."""
    assert metres_between(one, other) == pytest.approx(2 * QUARTER_MERIDIAN_M, rel=6e-3)


@given(places, places, st.floats(0, 1.0))
def test_whatever_is_near_is_inside_the_bounds(centre, other, share):
    """The index may offer too much, and must never withhold."""
    metres = metres_between(centre, other)
    assume(metres < 19_900_000)

    box = reach(centre, metres * (1 + share) + 1e-6)

    assert box.west <= other.lon <= box.east or abs(other.lat) == 90
    assert box.south <= other.lat <= box.north


@given(places, st.floats(0, 3e7))
def test_bounds_stay_on_the_map(centre, metres):
    """Across the seam and around the poles they go all the way round."""
    box = reach(centre, metres)

    assert -180 <= box.west <= centre.lon <= box.east <= 180
    assert box.south <= centre.lat <= box.north


def test_bounds_of_a_short_way_are_tight():
    """A kilometre in Helsinki: 18 thousandths of a degree up and down, 36 to the sides."""
    box = reach(Place(24.94, 60.17), 1000.0)

    assert (box.north - box.south, box.east - box.west) == (
        pytest.approx(0.0181, rel=0.01),
        pytest.approx(0.0361, rel=0.01),
    )
