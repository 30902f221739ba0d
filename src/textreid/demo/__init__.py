"""The whole main job in a few minutes, from nothing, on people who do not exist."""

from textreid.demo.pipeline import DemoResult, DemoSettings, run_demo

__all__ = ["DemoResult", "DemoSettings", "run_demo"]
