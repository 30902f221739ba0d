"""A folder of photographs that can be searched by description: what is left out of it, embedded, scored and ranked.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used: the cache needs neither
numpy nor Pillow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
