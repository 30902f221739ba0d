"""What is known of where a model comes from, for the card of its converted form."""

from pathlib import Path
from typing import TYPE_CHECKING

from textreid.artifacts import MANIFEST
from textreid.models.folder import BUNDLED, CARD
from textreid.version import __version__

if TYPE_CHECKING:
    from textreid.models.model import Model


def describe_origin(source: str, model: "Model") -> str:
    """Markdown: how the model was converted, and the card of a source that has one."""
    folder = BUNDLED if source == BUNDLED.name else Path(source)
    lines = [
        f"Converted by textreid {__version__} from `{source if source == BUNDLED.name else folder.name}`, "
        f"fingerprint `{model.fingerprint}`, for images of {model.config.image_height} by "
        f"{model.config.image_width} pixels. Checkpoint selected on {model.selected_on or 'data that is not recorded'}."
    ]
    own = folder / CARD
    if (folder / MANIFEST).is_file() and own.is_file():
        return "\n".join([own.read_text(encoding="utf-8").rstrip(), "", "## Conversion", "", *lines]) + "\n"
    unknown = "The source has no card that textreid reads: its training data, licence and metrics are not known here."
    return "\n".join(["# Model card", "", *lines, "", unknown]) + "\n"
