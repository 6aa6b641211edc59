"""perfkit: fast SQLAlchemy services whose answers stay right."""
