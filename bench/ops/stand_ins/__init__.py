"""Gradients of stand-ins: operations caught while a model runs, with their own values and another slope."""
