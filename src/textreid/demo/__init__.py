"""The paper's story in a few minutes, on people who do not exist: noisy captions of new cameras, and what they bring.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
