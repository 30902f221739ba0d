from .embedding_cache import EmbeddingCache as EmbeddingCache, cache_folder as cache_folder
from .search import Hit as Hit, SearchResult as SearchResult, search_folder as search_folder
from .sheet import contact_sheet as contact_sheet, save_contact_sheet as save_contact_sheet
