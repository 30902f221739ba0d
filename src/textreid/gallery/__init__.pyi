from .embedding_cache import EmbeddingCache as EmbeddingCache, cache_folder as cache_folder, open_cache as open_cache
from .query.nobody import Verdict as Verdict
from .query.question import Question as Question
from .search import Hit as Hit, SearchResult as SearchResult
from .sheet import contact_sheet as contact_sheet, save_contact_sheet as save_contact_sheet
