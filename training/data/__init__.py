"""Loaders: from a recipe's data section to rows in original units. Nothing is downloaded."""

from training.data.binarise import binarise
from training.data.dataset import Dataset, Fold, row_hashes
from training.data.idx import read_idx
from training.data.load import load_data

__all__ = ["Dataset", "Fold", "binarise", "load_data", "read_idx", "row_hashes"]
