"""Search with a population of points for each image: climb, cross, select."""
