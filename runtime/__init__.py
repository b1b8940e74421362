"""Runs bundles: ONNX Runtime sessions, the plain reference loop over a program, goldens, pictures."""
