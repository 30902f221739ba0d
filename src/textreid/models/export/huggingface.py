"""A model as a repository folder of the Hugging Face hub, in the format of transformers' ``CLIPModel``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from textreid.artifacts import new_folder, write_bytes, write_json, write_text
from textreid.config import NORM_EPSILON, ModelConfig
from textreid.errors import ModelError
from textreid.images import RESAMPLING
from textreid.models.checkpoints.configs import OWN_SECTION, PIXELS
from textreid.models.checkpoints.layouts import VISION_POSITIONS
from textreid.models.folder import CONFIG, REPOSITORY_KIND, REPOSITORY_VERSION, TOKENIZER, WEIGHTS
from textreid.models.positions import to_square
from textreid.models.tokenizer import END, START, Tokenizer

if TYPE_CHECKING:
    from textreid.models.model import Model

README, TOKENIZER_CONFIG = "README.md", "tokenizer_config.json"

_LOGIT_SCALE = 3.912023  # ln(1 / 0.02), the temperature of Tan et al. 2024; it scales scores and changes no feature


def export_huggingface(
    model: "Model", path: Path | str, card: str, license_id: str | None = None, replace: bool = False
) -> None:
    """Write ``config.json``, ``model.safetensors``, tokenizer and pixel settings, and ``README.md``.

    transformers' CLIP stores positions of a square grid only. A model for images of height ≠ width is stored with a
    square table that ``interpolate_pos_encoding=True`` turns into its own
    (`textreid.models.positions`).

    Args:
        model: with the stem of CLIP.
        path: the folder.
        card: Markdown on the data the model was made from and on how good it is; goes into ``README.md``.
        license_id: of the weights, as the hub spells it (``"mit"``); None says there that nobody stated it.
        replace: whether a folder at ``path`` may be replaced.

    Raises:
        ModelError: the model's stem is another than CLIP's, which transformers' CLIP lacks.
        ArtifactError: ``path`` exists, or cannot be written.
    """
    config = model.config
    if config.stem != "patch":
        raise ModelError(
            f"transformers' CLIP has no {config.stem} stem, so that this model cannot be stored in its format; "
            "convert it to onnx or to a model folder"
        )
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.encoder.state_dict().items()}
    state[VISION_POSITIONS] = to_square(state[VISION_POSITIONS], config.grid).contiguous()
    # A parameter of CLIPModel: without it transformers would warn of weights that it makes up.
    state["logit_scale"] = torch.tensor(_LOGIT_SCALE)
    facts = {
        "fingerprint": model.fingerprint,
        "selected_on": model.selected_on,
        "training_text": model.training_text,
    }
    with new_folder(Path(path), REPOSITORY_KIND, REPOSITORY_VERSION, replace=replace, **facts) as folder:
        write_json(folder / CONFIG, _config(config, model.tokenizer, model.selected_on))
        write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
        model.tokenizer.save(folder / TOKENIZER)
        write_json(folder / TOKENIZER_CONFIG, _tokenizer_config(model.tokenizer))
        write_json(folder / PIXELS, _pixels(config))
        write_text(folder / README, _readme(config, card, license_id))


def _config(config: ModelConfig, tokenizer: Tokenizer, selected_on: str | None) -> dict[str, Any]:
    shared = {"hidden_act": config.activation, "projection_dim": config.embedding_dim, "layer_norm_eps": NORM_EPSILON}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embedding_dim,
        "logit_scale_init_value": _LOGIT_SCALE,
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": config.vocabulary_size,
            "hidden_size": config.text_width,
            "intermediate_size": 4 * config.text_width,
            "num_hidden_layers": config.text_layers,
            "num_attention_heads": config.text_heads,
            "max_position_embeddings": config.text_length,
            "bos_token_id": tokenizer.start_id,
            "eos_token_id": tokenizer.end_id,
            # transformers takes the feature of the first end token: those that pad a text come after it.
            "pad_token_id": tokenizer.end_id,
            **shared,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": config.vision_width,
            "intermediate_size": 4 * config.vision_width,
            "num_hidden_layers": config.vision_layers,
            "num_attention_heads": config.vision_heads,
            # transformers knows square pictures only; the true size stands in the section of our own.
            "image_size": max(config.image_height, config.image_width),
            "patch_size": config.patch_size,
            **shared,
        },
        OWN_SECTION: {
            "image_height": config.image_height,
            "image_width": config.image_width,
            "tokenizer": config.tokenizer,
            "selected_on": selected_on,
            "reduced_decoding": config.reduced_decoding,
        },
    }


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        # Not CLIP's class, which makes its own steps before the merges in place of those in `tokenizer.json`.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": tokenizer.text_length,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _pixels(config: ModelConfig) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": config.image_height, "width": config.image_width},
        "resample": RESAMPLING[config.interpolation].value,  # a number of Pillow
        # A crop would cut head and feet off: pictures are resized whatever their shape.
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.pixel_mean),
        "image_std": list(config.pixel_std),
    }


def _readme(config: ModelConfig, card: str, license_id: str | None) -> str:
    square = config.image_height == config.image_width
    extra = "" if square else ", interpolate_pos_encoding=True"
    positions = (
        ""
        if square
        else f"""
`interpolate_pos_encoding=True` is needed: images are {config.image_height} by {config.image_width} pixels, and the
stored table of positions is a square one that this option turns into the model's own.
"""
    )
    return f"""---
{f"license: {license_id}" if license_id else "license: unknown"}
library_name: transformers
pipeline_tag: zero-shot-image-classification
language: en
tags: [clip, person-re-identification, text-to-image-retrieval]
---

# Text-to-image person retrieval

A CLIP dual encoder that ranks pictures of people by a sentence. Written by
[textreid](https://pypi.org/project/textreid/), which loads this folder too: `textreid.load_model(FOLDER)`.

## Use

```python
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

model = CLIPModel.from_pretrained(FOLDER).eval()
images = CLIPImageProcessor.from_pretrained(FOLDER)(Image.open("person.jpg"), return_tensors="pt")
texts = AutoTokenizer.from_pretrained(FOLDER)(
    ["a woman in a red jacket"], padding=True, truncation=True, return_tensors="pt"
)
with torch.inference_mode():
    output = model(**images, **texts{extra})
print(output.text_embeds @ output.image_embeds.T)  # cosine similarities
```
{positions}
Text that is not plain ASCII, or holds an HTML entity, is to be cleaned first, as CLIP's release does and its tokenizer
in transformers does not: `html.unescape(html.unescape(ftfy.fix_text(text))).lower()`. `logit_scale` is ln(1 / 0.02):
it was not learned, and it changes no feature.

## Licence

Of the weights: {license_id or "not stated by who converted them; ask before you pass them on"}.
Data and published checkpoints that they were made from may carry terms of their own.

## Intended use and limits

Ranking crops of one whole person by a description of clothing and belongings, for research and for search in material
that one may search. A high rank is a lead, not an identification: there is always a best score, also where nobody fits.
It does not recognise faces, and it must not decide about anyone. Whether its errors differ between groups of people is
known only if it is stated below.

## Data and metrics, as the source says

{_deeper(card)}"""


def _deeper(card: str) -> str:
    """Move the headings of a card two levels down, to stand inside another."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in card.splitlines()) + "\n"
