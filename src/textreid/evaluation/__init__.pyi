from .encoding import EncodedSplit as EncodedSplit, Encoder as Encoder, encode_split as encode_split
from .metrics import (
    QueryMetrics as QueryMetrics,
    RetrievalMetrics as RetrievalMetrics,
    retrieval_metrics as retrieval_metrics,
)
from .protocol import Evaluation as Evaluation, Retrieval as Retrieval, evaluate as evaluate
from .report import compare as compare, report_tables as report_tables, write_report as write_report
from .swaps import SwapTest as SwapTest, swap_tests as swap_tests, swaps_of as swaps_of
