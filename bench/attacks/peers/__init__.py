"""Attacks of other libraries behind our interface."""
