"""Captioning on a Ray cluster; only `--engine ray` comes here, for it needs the extra ``cluster``."""
