"""Captions for pedestrian crops: instructions, templates and the captioners that follow them."""

from textreid.captioning.backends.simulated import SimulatedMLLM
from textreid.captioning.captioner import Caption, Captioner, CaptionFailure, Request, Usage
from textreid.captioning.instructions import Instruction, dynamic_instructions, static_instruction
from textreid.captioning.simulate import simulate_captions
from textreid.captioning.templates import Template, own_templates, read_templates

__all__ = [
    "Caption",
    "CaptionFailure",
    "Captioner",
    "Instruction",
    "Request",
    "SimulatedMLLM",
    "Template",
    "Usage",
    "dynamic_instructions",
    "own_templates",
    "read_templates",
    "simulate_captions",
    "static_instruction",
]
