"""From bundles to HTTP. Imports contract and runtime; never torch, models or training."""
