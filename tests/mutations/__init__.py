"""The deliberate errors that ``tests/mutants.py`` puts into the code, and the tests that must notice each."""

from tests.mutations.classical import CLASSICAL
from tests.mutations.contract import CONTRACT
from tests.mutations.evaluation import EVALUATION
from tests.mutations.families import FAMILIES
from tests.mutations.mutant import Mutant, mutants_of
from tests.mutations.nets import NETS
from tests.mutations.runtime import RUNTIME
from tests.mutations.scoring import SCORING
from tests.mutations.service import SERVICE
from tests.mutations.training import TRAINING

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = [
    *CONTRACT,
    *NETS,
    *FAMILIES,
    *(mutant for where, changes in CLASSICAL.items() for mutant in mutants_of(*where, **changes)),
    *TRAINING,
    *EVALUATION,
    *RUNTIME,
    *SCORING,
    *SERVICE,
]
