from .checkpoints.report import KeyReport as KeyReport
from .dual_encoder import DualEncoder as DualEncoder, Encoded as Encoded
from .ensemble import Ensemble as Ensemble
from .export.onnx_model import OnnxModel as OnnxModel
from .model import Model as Model
from .query_encoder import QueryEncoder as QueryEncoder
from .tokenizer import TokenBatch as TokenBatch, Tokenizer as Tokenizer
from .weights import initialize as initialize, load_model as load_model
