"""Gaussian moments, dual kernels and exact ranks; numpy and scipy only."""
