"""django-cacheops, which is Django's: a function and a list of rows, cached with what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ROWS = 22


def hits(url: str, value: dict[str, int | str]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A function that depends on a model and returns a copy of `value`; and a list of so many rows of that model."""
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["cacheops", "benchmarks"],
        CACHEOPS_REDIS=url,
        CACHEOPS={"*.*": {"timeout": 900}},
        USE_TZ=True,
    )
    django.setup()
    from cacheops import cached_as
    from django.db import connection, models

    class Bin(models.Model):  # type: ignore[misc]
        name = models.TextField()

        class Meta:
            app_label = "benchmarks"

    with connection.schema_editor() as editor:
        editor.create_model(Bin)
    model: Any = Bin
    model.objects.bulk_create([Bin(name=f"bin {number}") for number in range(ROWS)])

    @cached_as(Bin, timeout=900)  # type: ignore[untyped-decorator]
    def function(organization_id: int) -> dict[str, int | str]:
        return dict(value)

    def rows() -> list[Any]:
        return list(model.objects.filter(id__gt=0).cache())

    rows()  # Django asks no database on a loop, and what is measured runs on one
    return lambda: function(7), rows
