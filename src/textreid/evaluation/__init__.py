"""Ranking, metrics, the protocol and its report."""
