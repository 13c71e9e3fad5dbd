"""Where models are kept, by name: one module a place, registered in `bench.core.registry.model_sources`."""
