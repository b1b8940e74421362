"""Rows scored where they lie: files larger than memory, streams, or the batches of whoever calls."""
