"""Captions for pedestrian crops: instructions, templates and the captioners that follow them."""

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.discovery import ChatModel, discover_templates
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, Captioner, CaptionFailure, Request, Usage
from textreid.captioning.simulate import simulate_captions
from textreid.captioning.styles import style_instructions
from textreid.captioning.templates import Template, own_templates, read_templates
from textreid.captions.diversity import Diversity, compare_corpora
from textreid.captions.exporting import export_captions
from textreid.captions.importing import Source, import_captions

__all__ = [
    "Caption",
    "CaptionFailure",
    "Captioner",
    "ChatModel",
    "Diversity",
    "Instruction",
    "Request",
    "SimulatedMLLM",
    "Source",
    "Template",
    "Usage",
    "compare_corpora",
    "discover_templates",
    "dynamic_instructions",
    "export_captions",
    "import_captions",
    "own_templates",
    "read_templates",
    "simulate_captions",
    "static_instruction",
    "style_instructions",
]
