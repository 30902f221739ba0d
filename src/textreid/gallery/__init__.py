"""Searching a folder of crops with a sentence."""
