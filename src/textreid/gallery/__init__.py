"""A folder of photographs that can be searched by description."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textreid.gallery.embedding_cache import EmbeddingCache, cache_folder
    from textreid.gallery.search import Hit, SearchResult, search_folder
    from textreid.gallery.sheet import contact_sheet, save_contact_sheet

_HOME = {
    "EmbeddingCache": "embedding_cache",
    "Hit": "search",
    "SearchResult": "search",
    "cache_folder": "embedding_cache",
    "contact_sheet": "sheet",
    "save_contact_sheet": "sheet",
    "search_folder": "search",
}

__all__ = [
    "EmbeddingCache",
    "Hit",
    "SearchResult",
    "cache_folder",
    "contact_sheet",
    "save_contact_sheet",
    "search_folder",
]


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is used: the cache needs neither numpy nor Pillow."""
    if name in _HOME:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
