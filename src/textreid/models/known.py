"""Models that are known to load: where each comes from, what it was trained on, how good it was found to be."""

from pathlib import Path
from typing import NamedTuple


class KnownModel(NamedTuple):
    """A model by the name that `load_model` takes, or a published file to fetch by hand.

    Attributes:
        name: what to give to ``--model``; a description where the file has to be fetched first.
        licence: of its weights, as their publisher states it.
        trained_on: what it learned from.
        direct_transfer: R1 in % on the test splits of CUHK-PEDES, ICFG-PEDES and RSTPReid without training on them, as
            published; empty where nobody published them.
        source: where the weights come from, and how large they are.
        verified: what was tried with this version of textreid.
    """

    name: str
    licence: str
    trained_on: str
    direct_transfer: tuple[float, ...]
    source: str
    verified: str


ALIASES = {"clip": "openai/clip-vit-base-patch16"}


def full_name(name_or_path: str | Path) -> str | Path:
    """Write out a short name of `ALIASES`; give back any other name or path as it is."""
    return ALIASES.get(str(name_or_path), name_or_path)


KNOWN = (
    KnownModel(
        "small+colours+attributes", "Apache-2.0",
        "what small did; attributes of 48,000 pictures, 3-D and drawn; colour names learn nothing", (),
        "in the package, 12 MB", "measured here: docs/benchmarks.md",
    ),
    KnownModel(
        "small", "Apache-2.0", "40,000 pictures of drawn and 3-D people, above a trunk that has seen ImageNet", (),
        "in the package, 11 MB", "measured here: docs/benchmarks.md",
    ),
    KnownModel(
        "tiny", "Apache-2.0", "94,000 pictures of drawn and 3-D people, no photograph; bundled before small", (),
        "in the package, 7 MB", "measured here: docs/benchmarks.md",
    ),
    KnownModel(
        "clip", "MIT (the code's repository)", "400 M pictures with their texts on the web", (12.65, 6.67, 13.45),
        f"Hugging Face hub, {ALIASES['clip']}, 599 MB", "its format, with random weights; figures: Tan et al. 2024",
    ),
    KnownModel(
        "a .pth of the paper's release", "none stated", "CLIP, then 1 M pictures captioned by MLLMs",
        (57.61, 38.36, 51.50),
        "github.com/WentaoTan/MLLM4Text-ReID", "its format, with random weights; figures: Tan et al. 2024",
    ),
    KnownModel(
        "a best.pth of IRRA", "MIT (the repository)", "CLIP, then the training split of one benchmark", (),
        "github.com/anosorae/IRRA", "its format, with random weights",
    ),
)  # fmt: skip
