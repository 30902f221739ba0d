from .cleaning import Cleaned as Cleaned, clean as clean
from .diversity import Diversity as Diversity, compare_corpora as compare_corpora
from .exporting import export_captions as export_captions
from .importing import Imported as Imported, Source as Source, import_captions as import_captions
from .selecting import select_captions as select_captions, select_images as select_images
from .sidecars import error_spans as error_spans, raw_answers as raw_answers
from .table import (
    CaptionRow as CaptionRow,
    CaptionTable as CaptionTable,
    read_captions as read_captions,
    write_captions as write_captions,
)
from .text import SentencePattern as SentencePattern, sentence_pattern as sentence_pattern
from .writer import GrowingTable as GrowingTable, caption_rows as caption_rows
