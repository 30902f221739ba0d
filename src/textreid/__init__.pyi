from . import errors as errors, presets as presets
from .captioning.plan import caption as caption
from .captions.table import read_captions as read_captions
from .config import Config as Config
from .datasets.benchmarks import read_benchmark as read_benchmark
from .errors import TextReidError as TextReidError
from .evaluation.protocol import evaluate as evaluate
from .gallery.search import search as search
from .models import Model as Model, load_model as load_model
from .service.client import AsyncClient as AsyncClient, Client as Client
from .training.dataset import annotated_people as annotated_people, captioned_images as captioned_images
from .training.recipe import train as train
from .version import __version__ as __version__
