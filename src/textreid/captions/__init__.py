"""Caption tables: written, read, imported, exported, cleaned and measured."""
