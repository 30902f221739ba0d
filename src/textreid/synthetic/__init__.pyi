from .attributes import COLOURS as COLOURS, Person as Person, View as View
from .corpus import read_people as read_people, write_corpus as write_corpus
from .domains import DOMAINS as DOMAINS, Domain as Domain
from .drawing.render import Shot as Shot, render as render
from .sampling import sample_person as sample_person
