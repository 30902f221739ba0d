from .database import Database as Database, open_database as open_database
from .errors import (
    ConnectionLostError as ConnectionLostError,
    DiskFullError as DiskFullError,
    ModelChangedError as ModelChangedError,
    PassingError as PassingError,
    StoreError as StoreError,
)
from .rows import (
    Counts as Counts,
    Crop as Crop,
    Cursor as Cursor,
    Facts as Facts,
    Filters as Filters,
    GalleryInfo as GalleryInfo,
    Hit as Hit,
    NewCrop as NewCrop,
    NewFile as NewFile,
    Page as Page,
)
from .store import Store as Store
