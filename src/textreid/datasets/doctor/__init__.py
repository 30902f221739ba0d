"""Examines data before a model sees it."""
