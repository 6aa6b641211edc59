"""python -m wastemgmt: the same as the command wastemgmt."""

from wastemgmt.cli import app

app()
