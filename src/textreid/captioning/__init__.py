"""Captions for pedestrian crops: instructions, templates and the captioners that follow them."""
