"""Partitions, exact widening and equitable matrices."""
