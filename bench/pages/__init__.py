"""Pages: a paper on trial, told from stored runs, one file a page."""
