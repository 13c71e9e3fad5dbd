"""Tables: views of runs, one file a table. `render` writes them all."""
