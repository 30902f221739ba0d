"""A gallery as a service: one engine behind the API, the page and the command line.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
