"""Architectures: one family a file; each registers factories in `bench.core.registry.architectures`."""
