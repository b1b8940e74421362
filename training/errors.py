"""What can go wrong between a recipe and a bundle, in words for the person who runs the command."""

from __future__ import annotations

__all__ = ["DataError", "FoldError", "RecipeError", "TrainingError", "TrainingInputError"]


class TrainingInputError(ValueError):
    """Something that the user can put right: a recipe, a path, a data set. The message is one line."""


class RecipeError(TrainingInputError):
    """A recipe that cannot be read, or that asks for something that does not exist."""


class DataError(TrainingInputError):
    """A data file that is missing or is not what its loader expects."""


class FoldError(TrainingInputError):
    """Rows too few, or too alike, for the folds that the recipe asks for."""


class TrainingError(RuntimeError):
    """Training that went wrong: it diverged, or what it wrote is not what it was to write."""
