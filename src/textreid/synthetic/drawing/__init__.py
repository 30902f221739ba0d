"""Draws a synthetic person in a place, as a camera would see them."""
