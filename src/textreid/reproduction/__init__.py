"""The published experiments as lists of this program's own commands, at the size of the paper and in miniature."""

from textreid.reproduction.experiments import Experiment, Row, experiments, find_experiment
from textreid.reproduction.plans import SCALES, Plan, Step, make_plan
from textreid.reproduction.runner import run_plan

__all__ = ["SCALES", "Experiment", "Plan", "Row", "Step", "experiments", "find_experiment", "make_plan", "run_plan"]
