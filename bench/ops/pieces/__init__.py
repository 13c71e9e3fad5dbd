"""The linear pieces of a ReLU net: held still, and climbed exactly."""
