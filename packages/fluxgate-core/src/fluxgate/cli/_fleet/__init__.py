"""The circuits of a fleet on the command line: what its store has, and what is set by hand."""
