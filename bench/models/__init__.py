"""Models: architectures, trained weights, and the forms in which attacks search on them."""
