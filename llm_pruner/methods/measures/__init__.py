"""Measures of layers that allocations go by. A file here is named by the allocation that needs it."""
