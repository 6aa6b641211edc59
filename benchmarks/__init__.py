"""Scripts that measure, each against a floor or a peer in the same run, and print a table and JSON."""
