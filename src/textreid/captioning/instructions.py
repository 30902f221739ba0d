"""What an MLLM is asked: one static request, and a dynamic one that adds a template (Tan et al. 2024, §3.2)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from textreid.captioning.templates import Template, own_templates
from textreid.captions.table import Kind

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
