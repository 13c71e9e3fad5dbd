"""Data sets: one module each, registered by name in `bench.registry.datasets`."""
