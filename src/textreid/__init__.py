"""Find a person in a pile of images by describing them in words, and train the models that do it.

>>> import textreid
>>> model = textreid.load_model()  # the bundled model; no download  # doctest: +SKIP
>>> images = model.encode_images(["a.jpg", "b.jpg"])  # (2, D), L2-normalised  # doctest: +SKIP
>>> texts = model.encode_texts(["a woman in a red jacket"])  # (1, D), L2-normalised  # doctest: +SKIP
>>> scores = texts @ images.T  # cosine similarities  # doctest: +SKIP
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
