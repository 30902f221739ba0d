from .experiments import (
    SCALES as SCALES,
    Experiment as Experiment,
    Row as Row,
    experiments as experiments,
    find_experiment as find_experiment,
)
from .plans import Plan as Plan, make_plan as make_plan, run_plan as run_plan
from .sources import DATA as DATA, Step as Step
