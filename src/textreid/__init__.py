"""Find a person in a pile of images by describing them in words, and train the models that do it.

>>> import textreid
>>> model = textreid.load_model()  # what is bundled; no download
>>> model.encode_texts(["a woman in a red jacket"]).shape  # (N, D), each of length 1
(1, 716)

Names are listed in ``__init__.pyi``; a module is imported when one of them is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
