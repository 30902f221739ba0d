"""Ranking, metrics, the protocol and its report."""

from textreid.evaluation.metrics import QueryMetrics, RetrievalMetrics, retrieval_metrics
from textreid.evaluation.protocol import Evaluation, Retrieval, evaluate_model

__all__ = ["Evaluation", "QueryMetrics", "Retrieval", "RetrievalMetrics", "evaluate_model", "retrieval_metrics"]
