"""Architectures: one file a family; each registers factories in `bench.registry.architectures`."""
