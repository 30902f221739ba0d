"""People in photographs and video: found by a detector, followed by a tracker, handed out as a few good crops each.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
