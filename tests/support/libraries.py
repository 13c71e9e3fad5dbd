"""Libraries that only some tests need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest


def library(name: str) -> Any:
    """A library; the test is skipped, with the reason, where it is missing or does not import."""
    try:
        return import_module(name)
    except Exception as fault:
        pytest.skip(f"{name} does not import here ({type(fault).__name__}: {fault})")
