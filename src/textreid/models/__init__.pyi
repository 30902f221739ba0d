from .checkpoints.report import KeyReport as KeyReport
from .cross_modal_head import CrossModalHead as CrossModalHead
from .dual_encoder import DualEncoder as DualEncoder, Encoded as Encoded
from .model import Model as Model
from .onnx_model import OnnxModel as OnnxModel
from .query_encoder import QueryEncoder as QueryEncoder
from .tokenizer import TokenBatch as TokenBatch, Tokenizer as Tokenizer
from .weights import import_model as import_model, initialize as initialize, load_model as load_model
