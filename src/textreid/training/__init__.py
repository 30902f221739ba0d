"""Losses, masking, the noise table, checkpoints, and the recipe that puts them together."""
