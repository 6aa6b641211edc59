"""What is mapped: classes, and what a column or a type says of them.

mapped_classes      orm.mapper._all_registries,
registry._managers                else: none are found; declare `cache_tags` in Table.info
variants_of         TypeEngine._variant_mapping       else: none are found; a column with `with_variant` is taken
for what it is elsewhere
is_temporary        Table._prefixes                   else: False; each session's own is taken for one of all
mapper_annotated    ClauseElement._annotations        else: None; such a column is taken for its table's
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine


def mapped_classes() -> list[type]:
    """Every class that a declarative base or registry of this process has mapped."""
    registries = getattr(sys.modules[Mapper.__module__], "_all_registries", None)
    if registries is None:
        return []
    # `registry.mappers` fails where one of its classes is mapped no more (`dispose`, `clear_mappers`)
    managers = [manager for registry in registries() for manager in list(getattr(registry, "_managers", ()))]
    return [manager.mapper.class_ for manager in managers if manager.is_mapped]


def variants_of(kind: TypeEngine[Any]) -> Mapping[str, TypeEngine[Any]]:
    """What `with_variant` has put in the place of the type, by the names of dialects."""
    found: Mapping[str, TypeEngine[Any]] = getattr(kind, "_variant_mapping", {})
    return found


def is_temporary(table: Table) -> bool:
    """Whether each session makes the table for itself: `Table(…, prefixes=["TEMPORARY"])`."""
    words = {word for prefix in getattr(table, "_prefixes", ()) for word in str(prefix).upper().split()}
    return not words.isdisjoint(("TEMP", "TEMPORARY"))


def mapper_annotated(column: Any) -> Mapper[Any] | None:
    """The class by whose attribute a column was written into a statement: `Bin.id`, not `bins.c.id`."""
    found: Mapper[Any] | None = getattr(getattr(column, "_annotations", {}).get("parententity"), "mapper", None)
    return found
