"""Attacks under a budget that follow the gradient."""
