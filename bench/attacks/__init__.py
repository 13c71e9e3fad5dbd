"""One attack method a file; a file that registers an attack is found by its name."""
