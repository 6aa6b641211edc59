"""Makes the city's files out of an OpenStreetMap extract; see README.md."""
