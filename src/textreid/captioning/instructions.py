"""What an MLLM is asked: one static request, and dynamic ones that add a template (Tan et al. 2024, §3.2) or a style.

Templates fix words; a style names what a human writer would vary: how long, how formal, in which order. The direction
is that of HAM (CVPR 2025), which learns its styles from annotated target sets; these are written down, so that the
target stays unseen. A style is one point in a grid of axes, and any number of them covers the grid evenly.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from textreid.captioning.templates import Template, own_templates
from textreid.captions.table import Kind
from textreid.errors import CaptionError
from textreid.seeding import generator

# Asking for accessories, for details or for "head to toe" makes MLLMs invent (Tan et al. 2024, supplement), so the
# request names five attributes, lets the MLLM skip, and forbids filling in.
_REQUEST = (
    "Describe the person who is in the middle of this picture, so that someone else could pick them out of a crowd. "
    "Cover the person's gender, hairstyle, clothing, shoes and belongings. "
    "Leave out whatever the picture does not show, and write nothing that you cannot see in it. "
    "Answer with one to three plain English sentences and nothing else."
)
_IN_THE_STYLE = (
    " Follow the style of this template: fill each slot in square brackets with what you see, and drop or rephrase "
    'the parts that you cannot fill. Template: "{template}"'
)


@dataclass(frozen=True)
class Instruction:
    """A request to a captioner.

    Attributes:
        kind: ``"static"``, or ``"dynamic"``: with a template.
        text: what the MLLM is told.
        template: the template of a dynamic instruction, else None.
        style: id of the style of a dynamic instruction that asks for one instead, else empty.
    """

    kind: Kind
    text: str
    template: Template | None = None
    style: str = ""

    @property
    def template_id(self) -> str:
        """Name of the template, or of the style; empty without either."""
        return self.template.id if self.template else self.style

    @property
    def prompt_hash(self) -> str:
        """Version of the text: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def static_instruction() -> Instruction:
    """Return the request without a template."""
    return Instruction("static", _REQUEST)


def dynamic_instructions(templates: Mapping[str, Template] | None = None) -> tuple[Instruction, ...]:
    """Return the request with each of ``templates`` (our own when None); a job draws one for each caption."""
    chosen = own_templates() if templates is None else templates
    return tuple(
        Instruction("dynamic", _REQUEST + _IN_THE_STYLE.format(template=template.text), template)
        for template in chosen.values()
    )


# Any level of an axis can be had together with any of the others: sentences have a length, not the whole text.
AXES: Mapping[str, Mapping[str, str]] = {
    "sentences": {
        "one": "Write one sentence.",
        "two": "Write two sentences.",
        "three": "Write three sentences.",
    },
    "length": {
        "short": "Keep each sentence below ten words.",
        "medium": "Give each sentence ten to twenty words.",
        "long": "Give each sentence more than twenty words, if the picture shows enough to say.",
    },
    "register": {
        "plain": "Use everyday words.",
        "report": "Use the sober language of a police report.",
        "casual": "Write casually, the way people talk.",
        "notes": "Write in clipped notes that may leave out articles and verbs.",
    },
    "order": {
        "downward": "Go from the head down to the feet, through what can be seen.",
        "upward": "Begin at the lowest part of the body that can be seen and go up.",
        "person": "Begin with the person's gender and hair.",
        "clothes": "Begin with the clothes, and name the person's gender later.",
        "striking": "Begin with whatever catches the eye first.",
    },
    "detail": {
        "gist": "Name only the two or three things that are easiest to see.",
        "garments": "Name every garment that can be seen, with its colour.",
        "cut": "Name every garment that can be seen with its colour, and its pattern or cut where that is clear.",
    },
    "viewpoint": {
        "caption": "Write it as the caption of a photo.",
        "witness": "Write it as a witness who saw this person in the street.",
        "call": "Write it as one guard would describe this person to another.",
        "query": "Write it as someone who searches an archive of pictures for this person.",
    },
}
STYLES = math.prod(len(levels) for levels in AXES.values())  # points in the grid

_AXIS_WEIGHT = 16  # of an uneven axis, beside an uneven pair of axes


@dataclass(frozen=True)
class Style:
    """One level of each axis, by the names of `AXES`."""

    levels: Mapping[str, str]

    @property
    def id(self) -> str:
        """The levels' names, joined: ``"style:one-short-plain-downward-gist-caption"``."""
        return "style:" + "-".join(self.levels.values())

    @property
    def text(self) -> str:
        """What an MLLM is told."""
        return " ".join(AXES[axis][level] for axis, level in self.levels.items())


def even_styles(count: int, seed: int = 0) -> tuple[Style, ...]:
    """Return ``count`` different styles that cover the grid evenly, each axis by itself and each pair of axes.

    Every style is the one whose levels and pairs of levels the earlier ones have used least, so any beginning of the
    sequence is even by itself. Equal seeds give equal styles.

    Raises:
        CaptionError: ``count`` is not between 1 and the number of points in the grid.
    """
    if not 1 <= count <= STYLES:
        raise CaptionError(f"{count} styles: expected 1 to {STYLES:,}, of which there are no more")
    sizes = [len(levels) for levels in AXES.values()]
    grid = np.array(list(product(*map(range, sizes))))
    # Shuffled, for of styles that are used equally little `argmin` takes the first.
    grid = grid[generator(seed, "styles").permutation(STYLES)]
    used = np.zeros(STYLES, dtype=np.int64)
    chosen = []
    for _ in range(count):
        place = int(used.argmin())
        chosen.append(grid[place].tolist())
        same = grid == grid[place]
        # Times the number of levels: each of many levels has its turn more seldom, so that a use of it weighs more.
        for axis, size in enumerate(sizes):
            used += _AXIS_WEIGHT * size * same[:, axis]
        for one, other in combinations(range(len(sizes)), 2):
            used += sizes[one] * sizes[other] * (same[:, one] & same[:, other])
        used[place] = np.iinfo(np.int64).max // 2  # never again; half of it, for more is added to it in every turn
    names = [tuple(levels) for levels in AXES.values()]
    return tuple(
        Style({axis: names[number][level] for number, (axis, level) in enumerate(zip(AXES, levels, strict=True))})
        for levels in chosen
    )


def style_instructions(count: int = 256, seed: int = 0) -> tuple[Instruction, ...]:
    """Return the request with each of ``count`` styles; a captioning job draws one for each caption, as of templates.

    Raises:
        CaptionError: ``count`` is not between 1 and the number of points in the grid.
    """
    return tuple(
        Instruction("dynamic", f"{_REQUEST} {style.text}", style=style.id) for style in even_styles(count, seed)
    )
