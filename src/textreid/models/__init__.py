"""The dual encoder, its tokenizer, weights in and out, and what tells from features that a picture shows nobody.

Names are listed in ``__init__.pyi``; a module is imported when one of them is used: the tokenizer and the query
encoder need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
