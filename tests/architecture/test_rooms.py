"""The rooms of perfkit stand on floors, and imports point down."""

from __future__ import annotations

import pytest

from tools.rooms import FLOORS, broken_rules, read


def test_the_source_keeps_every_rule():
    """Each line names the file, the import and the rule."""
    assert list(map(str, broken_rules(read()))) == []


def test_the_check_sees_the_source():
    """A check of nothing would always agree."""
    assert {"perfkit", "perfkit.errors", "perfkit.sqla.private"} <= set(read())


def test_every_room_has_exactly_one_floor():
    """Otherwise its direction would be a matter of opinion."""
    rooms = [room for floor in FLOORS for room in floor]

    assert sorted(set(rooms)) == sorted(rooms)


@pytest.mark.parametrize(
    "text",
    [
        "from perfkit.cache.keys import key_of",
        "import perfkit.cache.keys",
        "from perfkit.cache import keys",
        "from perfkit import cache",
        "def later():\n    from perfkit.cache import keys",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from perfkit.cache.keys import Key",
    ],
)
def test_an_import_upwards_is_seen_however_it_is_written(text):
    """At the top, in a function, for types only."""
    tree = {"perfkit": "", "perfkit__cache": "", "perfkit__cache__keys": "", "perfkit__sqla__changes": text}

    assert complaints(**tree) == ["sqla imports cache, which is above it"]


def test_a_relative_import_is_seen():
    """It says nothing about rooms to somebody who reads it."""
    assert complaints(perfkit__sqla__changes="from ..cache import keys") == [
        "imports ..cache.keys by a relative name: write all of it"
    ]


def test_sisters_do_not_meet():
    """They take each other as parameters."""
    assert complaints(perfkit__paging__count="import perfkit.cache.keys", perfkit__cache__keys="") == [
        "paging imports cache, which is its sister"
    ]


def test_imports_downwards_and_within_a_room_are_fine():
    """Including those of the front door, which may import anything."""
    tree = {
        "perfkit__errors": "import sqlalchemy",
        "perfkit__cache__keys": "from perfkit.errors import PerfkitError",
        "perfkit__cache__read": "from perfkit.cache.keys import key_of",
        "perfkit__cache": "from perfkit.cache.read import read",
        "perfkit": "from perfkit.cache import read",
    }

    assert complaints(**tree) == []


def test_nobody_imports_the_front_door():
    """It imports them."""
    assert complaints(perfkit="", perfkit__cache__keys="from perfkit import Cache") == [
        "cache imports the front door, which imports cache"
    ]


def test_a_room_without_a_floor_is_seen():
    """Whoever builds a room decides where it stands."""
    assert complaints(perfkit__utils="", perfkit__cache__keys="from perfkit.utils import chunked") == [
        "utils has no floor: give it one in tools/rooms.py"
    ]


def test_a_circle_inside_a_room_is_seen_from_each_of_its_files():
    """Three files that want each other, one of them inside a function."""
    tree = {
        "perfkit__cache__keys": "from perfkit.cache.tags import Tag",
        "perfkit__cache__tags": "from perfkit.cache.cells import Cell",
        "perfkit__cache__cells": "def later():\n    from perfkit.cache.keys import key_of",
    }

    assert complaints(**tree) == [
        "circle: perfkit.cache.cells → perfkit.cache.keys → perfkit.cache.tags → perfkit.cache.cells",
        "circle: perfkit.cache.keys → perfkit.cache.tags → perfkit.cache.cells → perfkit.cache.keys",
        "circle: perfkit.cache.tags → perfkit.cache.cells → perfkit.cache.keys → perfkit.cache.tags",
    ]


def test_a_file_that_imports_its_own_door_is_a_circle():
    """The door imports the file."""
    tree = {
        "perfkit__cache": "from perfkit.cache.keys import Key",
        "perfkit__cache__keys": "from perfkit.cache import X",
    }

    assert len(complaints(**tree)) == 2


@pytest.mark.parametrize("client", ["redis", "asyncio", "threading"])
def test_protocols_name_no_client_loop_or_thread(client):
    """They await their ports; who may is a short list."""
    tree = {"perfkit__cache__read": f"import {client}", "perfkit__cache__flights": f"import {client}"}

    (complaint,) = broken_rules(named(tree))

    assert complaint.module == "perfkit.cache.read"
    assert complaint.text.startswith(f"imports {client}, which is for ")


def test_a_part_of_a_client_counts_as_the_client():
    """So does a name taken out of it."""
    assert len(complaints(perfkit__cache__read="from redis.asyncio import Redis\nimport asyncio.locks as locks")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "from sqlalchemy.orm.context import _column_descriptions",
        "import sqlalchemy.util._concurrency_py3k",
        "from sqlalchemy.util._collections import OrderedSet",
        "from sqlalchemy.util import _collections",
    ],
)
def test_private_names_of_sqlalchemy_are_for_one_folder(text):
    """Modules and names alike; elsewhere they are a complaint."""
    assert complaints(perfkit__sqla__private=text) == []
    assert complaints(perfkit__sqla__private__runs=text) == []
    assert len(complaints(perfkit__sqla__loads=text)) == 1


def test_public_and_dunder_names_of_sqlalchemy_are_for_everybody():
    """`__version__` is public."""
    assert complaints(perfkit__sqla__loads="from sqlalchemy import __version__, select") == []


def complaints(**tree: str) -> list[str]:
    return [broken.text for broken in broken_rules(named(tree))]


def named(tree: dict[str, str]) -> dict[str, str]:
    """Module names, in which a double underscore stands for the dot."""
    return {name.replace("__", "."): text for name, text in tree.items()}
