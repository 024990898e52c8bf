"""Stored results, statistics, claims and provenance."""
