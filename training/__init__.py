"""From data to a bundle: fit, evaluate, calibrate, export."""
