"""The only room that registers SQLAlchemy events or touches a name SQLAlchemy keeps to itself."""
