"""Fixtures for both test folders, tests/ and examples/wastemgmt/tests: see tools/services/fixtures.py."""

pytest_plugins = ("tools.services.fixtures",)
