"""Pruning language models: every method on the same calibration tokens, checkpoints that load anywhere."""
