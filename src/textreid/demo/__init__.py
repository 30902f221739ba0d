"""The whole main job in a few minutes, from nothing, on people who do not exist."""

from textreid.demo.pipeline import DemoSettings, run_demo

__all__ = ["DemoSettings", "run_demo"]
