"""CLIP by its name on the Hugging Face hub."""

import logging
from pathlib import Path

from textreid.errors import DownloadError
from textreid.models.checkpoints.clip import PICKLED_WEIGHTS, SAFE_WEIGHTS, VOCABULARY
from textreid.models.checkpoints.configs import PIXELS
from textreid.models.checkpoints.layouts import HUGGING_FACE, OPEN_CLIP
from textreid.models.folder import TOKENIZER

_LOG = logging.getLogger(__name__)
_TIMEOUT = 5.0  # seconds until an unreachable hub is given up
# Of what a repository may hold, the first is taken: the safe format, and what transformers reads before open_clip's.
_WEIGHTS = (SAFE_WEIGHTS, PICKLED_WEIGHTS, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def download(name: str) -> Path:
    """Fetch the CLIP called ``name`` from the Hugging Face hub to a local folder; only the files that are needed.

    What was downloaded before is used when the hub cannot be reached.

    Raises:
        DownloadError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    advice = "give the path of a folder that holds the model instead"
    try:
        files = {file.rfilename for file in HfApi().model_info(name, timeout=_TIMEOUT).siblings or ()}
        weights = [file for file in _WEIGHTS if file in files][:1]
        wanted = [HUGGING_FACE, VOCABULARY, TOKENIZER, PIXELS, OPEN_CLIP, *weights]
        return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=_TIMEOUT))
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{name}: neither a file or folder here nor a model on the Hugging Face hub; check the name, or {advice}"
        ) from error
    except Exception as error:  # the client lets errors of its network library through
        found = _downloaded_before(name)
        if found is None:
            reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
            raise DownloadError(
                f"{name}: not a file or folder here, and the Hugging Face hub did not give it ({reason}); {advice}"
            ) from error
        _LOG.warning("%s: the hub did not answer; using the files downloaded before, in %s", name, found)
        return found


def _downloaded_before(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(name, weights) for weights in _WEIGHTS)
    return next((Path(weights).parent for weights in found if isinstance(weights, str)), None)
