"""Limits of what is asked of lineage, known to those who ask from outside as well."""

TIME_LIMIT_S = 30.0
"""How long one query may run."""
