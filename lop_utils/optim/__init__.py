"""Optimizer-side interventions."""
