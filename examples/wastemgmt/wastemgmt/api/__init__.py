"""HTTP in, HTTP out; no SQL."""
