"""What tables share: a key, orders for lists, who changed a row and when, soft delete, a version of each row."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sqlalchemy import ColumnElement, DateTime, Dialect, ForeignKey, MetaData, Select, TypeDecorator, func, select
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from perfkit.loading import EagerProfile
from wastemgmt.perf import cache

if TYPE_CHECKING:
    from wastemgmt.models.user import User

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no time zones, so there it is kept without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


class Base(AsyncAttrs, DeclarativeBase):
    """Everything has an integer key."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcTime}

    id: Mapped[int] = mapped_column(primary_key=True, sort_order=-10)


class Listed:
    """A table that is shown in pages. An index leads with what each of its orders asks for: tests/test_pages.py."""

    @classmethod
    def orders(cls) -> dict[str, tuple[Any, ...]]:
        """What rows can be ordered by, by name."""
        raise NotImplementedError

    @classmethod
    def conditions(cls) -> tuple[ColumnElement[bool], ...]:
        """What is true of rows that are there for readers."""
        return ()

    @classmethod
    def alive(cls) -> Select[Self]:
        """The rows that are there for readers."""
        return select(cls).where(*cls.conditions())

    @classmethod
    def listed(cls, order: str, **equal: Any) -> Select[Self]:
        """Rows whose columns equal what is given, in one of the orders; None means any."""
        wanted = {name: value for name, value in equal.items() if value is not None}
        return cls.alive().filter_by(**wanted).order_by(*cls.orders()[order])


class Audited:
    """When a row was made and changed, and by whom. The users are loaded only where somebody asks for them."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), onupdate=lambda: datetime.now(UTC), sort_order=91
    )

    @declared_attr
    @classmethod
    def created_by_id(cls) -> Mapped[int | None]:
        return mapped_column(_user_key(cls), sort_order=92)

    @declared_attr
    @classmethod
    def updated_by_id(cls) -> Mapped[int | None]:
        return mapped_column(_user_key(cls), sort_order=93)

    @declared_attr
    @classmethod
    def created_by(cls) -> Mapped[User | None]:
        return relationship(
            "User", foreign_keys=lambda: cls.created_by_id, remote_side="User.id", lazy="select", viewonly=True
        )

    @declared_attr
    @classmethod
    def updated_by(cls) -> Mapped[User | None]:
        return relationship(
            "User", foreign_keys=lambda: cls.updated_by_id, remote_side="User.id", lazy="select", viewonly=True
        )


def _user_key(owner: type[Any]) -> ForeignKey:
    # users refer to organizations and organizations, by these columns, to users: one of the two has to come later
    return ForeignKey("users.id", use_alter=owner.__tablename__ == "organizations")


class Kept(Listed, Audited):
    """Rows that are never deleted, only marked so, and of which two editors cannot overwrite each other's change."""

    deleted_at: Mapped[datetime | None] = mapped_column(sort_order=94)
    version: Mapped[int] = mapped_column(default=1, server_default="1", sort_order=95)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}

    @classmethod
    def conditions(cls) -> tuple[ColumnElement[bool], ...]:
        return (cls.deleted_at.is_(None),)

    @classmethod
    async def get(cls, session: AsyncSession, key: int) -> Self | None:
        """The row, remembered until it changes; None if there is none, or it was deleted."""
        found = await cache.get(session, cls, key)
        return found if found is not None and found.deleted_at is None else None

    @classmethod
    @cache.query(entities=True)
    async def shown(cls, session: AsyncSession, key: int, profile: type[EagerProfile]) -> Any:
        """The row with what the profile loads; None if there is none, or it was deleted."""
        statement = cls.alive().where(cls.id == key)  # type: ignore[attr-defined]
        return (await session.scalars(profile.apply(statement))).one_or_none()

    @classmethod
    async def among(cls, session: AsyncSession, keys: Collection[int]) -> set[int]:
        """Those of `keys` that have a row which is not deleted."""
        key = cls.id  # type: ignore[attr-defined]
        return set(await session.scalars(select(key).where(key.in_(keys), cls.deleted_at.is_(None))))

    def delete(self) -> None:
        """Mark as deleted."""
        self.deleted_at = now()
