"""From a NumPy function to a cell: the trace, its derivative, the program and the NumPy interpreter."""
