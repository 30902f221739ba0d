from .pipeline import DemoResult as DemoResult, DemoSettings as DemoSettings, run_demo as run_demo
