"""The published experiments as lists of this program's own commands, at the size of the paper and in miniature."""

from textreid.reproduction.experiments import Experiment, Row, experiments, find_experiment
from textreid.reproduction.plans import SCALES, Plan, make_plan
from textreid.reproduction.runner import run_plan
from textreid.reproduction.sources import DATA, Step

__all__ = [
    "DATA",
    "SCALES",
    "Experiment",
    "Plan",
    "Row",
    "Step",
    "experiments",
    "find_experiment",
    "make_plan",
    "run_plan",
]
