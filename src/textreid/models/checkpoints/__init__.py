"""CLIP as others store it: files, their layouts, and what becomes of each tensor."""
