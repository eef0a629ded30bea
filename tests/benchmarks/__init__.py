"""Figures, never limits: `nox -s bench`."""
