"""Synthetic pedestrians: people with known attributes, drawn by seeded cameras and described in words."""
