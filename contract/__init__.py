"""What training writes and the service reads.

The contract between the two halves of Nonesuch: the manifest of a bundle, the data support, programs over
graphs, counter-based random numbers, conformal maths, and the bundle's files. It depends on pydantic, numpy and
an RFC 8785 encoder; it knows neither torch nor HTTP nor ONNX Runtime.
"""
