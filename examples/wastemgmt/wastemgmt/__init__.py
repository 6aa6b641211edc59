"""A waste-collection service: organizations, their customers' bins, and the routes on which they are emptied."""
