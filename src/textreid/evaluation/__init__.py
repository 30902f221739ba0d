"""Ranking, metrics, the protocol and its report."""

from textreid.evaluation.metrics import QueryMetrics, RetrievalMetrics, retrieval_metrics
from textreid.evaluation.protocol import Evaluation, evaluate_model

__all__ = ["Evaluation", "QueryMetrics", "RetrievalMetrics", "evaluate_model", "retrieval_metrics"]
