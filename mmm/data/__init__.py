"""Data: cards of data sets, preparers, and the order and batches of a run."""
