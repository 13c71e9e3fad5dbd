"""Data sets: one module each, registered by name in `bench.core.registry.datasets`."""
