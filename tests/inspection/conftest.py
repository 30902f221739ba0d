"""Inspections look at small runs, which the fixtures of training make."""

from tests.training.conftest import corpus, make_corpus, no_plots, small_config

__all__ = ["corpus", "make_corpus", "no_plots", "small_config"]
