"""Synthetic pedestrians: people with known attributes, drawn by seeded cameras and described in words."""

from textreid.synthetic.attributes import COLOURS, Person, View
from textreid.synthetic.corpus import read_people, write_corpus
from textreid.synthetic.domains import DOMAINS, Domain
from textreid.synthetic.drawing.render import Shot, render
from textreid.synthetic.sampling import sample_person

__all__ = [
    "COLOURS",
    "DOMAINS",
    "Domain",
    "Person",
    "Shot",
    "View",
    "read_people",
    "render",
    "sample_person",
    "write_corpus",
]
