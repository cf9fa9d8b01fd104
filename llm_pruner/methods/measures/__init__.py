"""Measures of layers for allocations. An allocation names its measure in ``ranking``."""
