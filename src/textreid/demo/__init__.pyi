from .pipeline import DemoResult as DemoResult, run_demo as run_demo
from .sizes import DemoSettings as DemoSettings, Size as Size
