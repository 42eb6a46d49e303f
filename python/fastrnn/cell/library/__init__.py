"""The cells that ship, as steps in NumPy."""
