"""`python -m bench.cli`, the same as `bench`."""

from bench.cli.main import entry

entry()
