from .errors import (
    AnnotationError as AnnotationError,
    ArtifactError as ArtifactError,
    CaptionError as CaptionError,
    ConfigError as ConfigError,
    DataError as DataError,
    DownloadError as DownloadError,
    ImageError as ImageError,
    ModelError as ModelError,
    ResumeError as ResumeError,
    RunStoppedError as RunStoppedError,
    TextReidError as TextReidError,
)
from .models import Model as Model, load_model as load_model
from .version import __version__ as __version__
