"""A recipe: one YAML file that names data, family, hyper-parameters, budget and anomaly section of one bundle."""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import yaml
from pydantic import ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from contract.support import Support
from models.base import GenerativeModel, capabilities, family
from models.protocols import HasFit, HasLosses
from training.errors import RecipeError
from training.sections import Data, Part
from training.statistics.refusals import why_not_of_family, why_not_of_model
from training.statistics.sections import Anomaly

__all__ = [
    "Anomaly",
    "Binarise",
    "FoldPlan",
    "Recipe",
    "Training",
    "build_model",
    "family_of",
    "load_recipe",
    "parse_recipe",
]

Seed = Annotated[int, Field(ge=0, lt=2**53)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Binarise(Part):
    """Each pixel is drawn once, 1 with probability equal to its intensity."""

    seed: Seed
    redraw: bool = Field(
        default=False,
        description="Training rows are drawn anew whenever they are seen; those of all other folds stay as drawn once.",
    )


class Training(Part):
    """Budget and optimiser of the one training loop."""

    max_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine: the learning rate falls to 0 over max_epochs."
    )
    weight_decay: float = Field(default=0.0, ge=0)
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many epochs without a better validation; None: never."
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of the moving average of the weights that is kept; None: none."
    )
    clip: float | None = Field(default=None, gt=0, description="Largest norm of a gradient; None: not clipped.")
    precision: Literal["32", "bf16-mixed"] = Field(
        default="32", description="bf16-mixed: products in bfloat16, on a GPU or a processor that has it; else 32 bits."
    )
    mirror: bool = Field(
        default=False, description="Half of the pictures that a step sees, by lot, have left and right exchanged."
    )


class FoldPlan(Part):
    """Sizes of the folds. Calibration and reference follow from the number of rows."""

    key: Seed = Field(default=0, description="Key of the hash that ranks the rows.")
    test: Share = Field(default=0.2, description="Share of the rows held out; an official test split replaces it.")
    validation: Share = Field(default=0.1, description="Share of the training rows that early stopping looks at.")
    repeats: Literal["together", "apart"] = Field(
        default="together",
        description="together: equal rows share a fold, so that no test row was trained on; apart: they are dealt one "
        "by one, for laws over so few states that a repeat is a draw like any other.",
    )


class Recipe(Part):
    """All that a bundle is made from."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the bundle.")]
    title: Annotated[str, Field(min_length=1, description="'This digit does not exist'.")]
    description: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1, description="Licence of the bundle, with what the data's asks for.")]
    family: str
    data: Data
    binarise: Binarise | None = None
    ordinary: str | None = Field(default=None, description="Label of the rows to model; the others are anomalies.")
    condition: Literal["label"] | None = Field(
        default=None, description="label: the model is conditional on the label of a row."
    )
    model: dict[str, Any] = Field(default={}, description="Hyper-parameters of the family.")
    training: Training | None = Field(default=None, description="None for a family with a closed form.")
    folds: FoldPlan = FoldPlan()
    anomaly: Anomaly | None = None
    seed: Seed = 0
    tolerance: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="How far a metric may lie from the manifest's, by name, when it is measured again."
    )

    @field_validator("ordinary", mode="before")
    @classmethod
    def _label(cls, ordinary: Any) -> Any:
        # Labels are words; YAML reads 0 as a number, and a label of 0 is called '0'.
        return str(ordinary) if type(ordinary) is int else ordinary

    @field_validator("model")
    @classmethod
    def _numbers(cls, model: dict[str, Any]) -> dict[str, Any]:
        # YAML 1.1 reads 1e-3 as a string: only 1.0e-3 is a number to it.
        for name, value in model.items():
            if isinstance(value, str):
                try:
                    float(value)
                except ValueError:
                    continue
                raise ValueError(f"{name}: YAML reads {value} as text; write it with a point, such as 1.0e-3")
        return model

    @field_validator("tolerance")
    @classmethod
    def _finite(cls, tolerance: dict[str, float]) -> dict[str, float]:
        for name, value in tolerance.items():
            if not math.isfinite(value):
                raise ValueError(f"{name}: a tolerance must be finite")
        return tolerance

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for name in ("ordinary", "condition"):
            if getattr(self, name) is not None and not self.data.labelled:
                raise ValueError(f"{name}: the section data names no labels")
        if self.ordinary is not None and self.condition is not None:
            raise ValueError("condition: where one label is ordinary, there is none to be conditional on")
        if self.anomaly is not None and self.anomaly.by_label and self.condition is None:
            raise ValueError("anomaly: by_label: rows have labels where a recipe says `condition: label`")
        if self.binarise is not None and self.data.pictures is False:
            raise ValueError("binarise: only pictures have intensities to binarise")
        return self


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_recipe(text: str, where: str = "recipe") -> Recipe:
    """A recipe from YAML text.

    Args:
        text: YAML.
        where: what to call it in errors.

    Raises:
        RecipeError: not YAML, or not a recipe; names the line or the field.
    """
    try:
        given = yaml.load(text, Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{where}: {line}{error.problem or error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of fields, not {type(given).__name__}")
    try:
        return Recipe.model_validate(given)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first(error)}") from None


def load_recipe(path: Path) -> tuple[Recipe, str]:
    """A recipe and its text.

    Raises:
        RecipeError: the file cannot be read, or is not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: a folder, not a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    return parse_recipe(text, str(path)), text


def family_of(recipe: Recipe) -> type[GenerativeModel]:
    """The family that a recipe names, checked against its sections.

    Raises:
        RecipeError: no such family, a training section too few or too many, a condition that the family cannot
            take, or an anomaly section without a density.
    """
    try:
        cls = family(recipe.family)
    except KeyError as error:
        raise RecipeError(f"{recipe.name}: family: {error.args[0]}") from None
    if issubclass(cls, HasFit) and recipe.training is not None:
        raise RecipeError(f"{recipe.name}: training: {recipe.family} has a closed form and takes no training section")
    if issubclass(cls, HasLosses) and recipe.training is None:
        raise RecipeError(f"{recipe.name}: training: {recipe.family} is trained by gradients and needs this section")
    if recipe.condition is not None and "labels" not in _parameters(cls):
        raise RecipeError(f"{recipe.name}: condition: {recipe.family} cannot be conditional on a label")
    if "labels" in recipe.model:
        raise RecipeError(f"{recipe.name}: model: labels come from the data; say `condition: label` in place of them")
    if recipe.anomaly is not None and recipe.anomaly.statistics is None and "log_prob" not in capabilities(cls):
        raise RecipeError(f"{recipe.name}: anomaly: {recipe.family} has no log-probability to score by")
    for section in recipe.anomaly.statistics or () if recipe.anomaly is not None else ():
        reason = why_not_of_family(section, cls)
        if reason is not None:
            raise RecipeError(f"{recipe.name}: anomaly: {recipe.family} has no {section.name}: {reason}")
    return cls


def build_model(recipe: Recipe, support: Support, labels: Sequence[str] | None = None) -> GenerativeModel:
    """The untrained model of a recipe, on the data's support.

    Args:
        recipe: the recipe.
        support: what a row is.
        labels: names of the classes of a recipe that is conditional on them.

    Raises:
        RecipeError: the family refuses the support or a hyper-parameter.
    """
    cls = family_of(recipe)
    refusal = cls.accepts(support)
    if refusal is not None:
        raise RecipeError(f"{recipe.name}: family: {recipe.family} does not fit these data: {refusal}")
    if recipe.training is not None and recipe.training.mirror and (support.element is None or len(support.shape) < 2):
        raise RecipeError(f"{recipe.name}: training: mirror: only pictures have a left and a right")
    try:
        given = {} if recipe.condition is None else {"labels": tuple(labels or ())}
        model = cls(support, **_hyper_parameters(cls, recipe.model), **given)
    except ValidationError as error:
        raise RecipeError(f"{recipe.name}: model: {_first(error)}") from None
    except ValueError as error:
        raise RecipeError(f"{recipe.name}: model: {error}") from None
    for section in recipe.anomaly.statistics or () if recipe.anomaly is not None else ():
        reason = why_not_of_model(section, model)
        if reason is not None:
            raise RecipeError(f"{recipe.name}: anomaly: there is no {section.name} here: {reason}")
    return model


def _hyper_parameters(cls: type[GenerativeModel], given: dict[str, Any]) -> dict[str, Any]:
    """Hyper-parameters checked against the types and names of the constructor's keyword-only parameters."""
    hints = get_type_hints(cls.__init__)
    wanted: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in _parameters(cls).items()
    }
    checked = create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **wanted).model_validate(given)
    return {name: getattr(checked, name) for name in given}


def _parameters(cls: type[GenerativeModel]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}


def _first(error: ValidationError) -> str:
    """The first of a validation's complaints: the field and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = "no such field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
