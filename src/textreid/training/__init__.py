"""Losses, masking, the noise table, checkpoints, and the recipe that puts them together.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used: to read a training set needs no
torch, the recipe needs everything.

Of the paper (Tan et al. 2024), `scorers.patches` holds Eq. 1-2, `masking` holds Eq. 3-4 and hides the words,
`noise_table` keeps the probabilities for the next epoch, `losses` holds Eq. 5-7, and `recipe` is the loop that calls
them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
