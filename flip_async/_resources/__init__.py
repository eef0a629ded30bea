"""A file a namespace: its endpoints and its methods."""
