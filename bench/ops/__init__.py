"""Tensor mathematics."""
