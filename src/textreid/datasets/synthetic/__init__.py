"""Synthetic pedestrians: people with known attributes, drawn by seeded cameras and described in words."""

from textreid.datasets.synthetic.attributes import COLOURS, Person, View
from textreid.datasets.synthetic.corpus import read_people, write_corpus
from textreid.datasets.synthetic.domains import DOMAINS, Domain
from textreid.datasets.synthetic.render import Shot, render
from textreid.datasets.synthetic.sampling import sample_person

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
