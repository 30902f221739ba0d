"""Which key goes to which endpoint: it is read from the environment and goes nowhere else."""

import os
import re
from urllib.parse import urlsplit

from textreid.errors import ConfigError

OPENAI_VARIABLE = "OPENAI_API_KEY"
_OPENAI_HOST = "api.openai.com"
_LONGEST_MESSAGE = 300  # characters
_KEY_LIKE = re.compile(r"\b(sk|pk|key|hf|gsk|xai|api)[-_][\w*-]{8,}")


class Key:
    """The key of an endpoint, or none; it does not show.

    Attributes:
        value: of the key; empty without one.
        advice: what to do when the endpoint does not accept it.
    """

    def __init__(self, value: str = "", advice: str = "it wants a key") -> None:
        self.value = value
        self.advice = advice

    def __repr__(self) -> str:
        return "Key([key])" if self.value else "Key()"

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"authorization": f"Bearer {self.value}"} if self.value else {}

    def redact(self, text: str) -> str:
        """``text`` on one line, cut to 300 characters, without the key and what looks like a part of one."""
        if self.value:
            text = text.replace(self.value, "[key]")
        text = " ".join(_KEY_LIKE.sub("[key]", text).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def key_variable(name: str) -> str:
    """The environment variable with the key of the endpoints called ``name``: ``QWEN_API_KEY`` for ``qwen``."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_API_KEY"


def key_for(name: str, url: str) -> Key:
    """The key that may go to ``url``, an endpoint called ``name``.

    The variable of the name goes to any endpoint that was given this name. ``OPENAI_API_KEY``, which many have set for
    other programs, goes to https://api.openai.com and nowhere else, whatever the name.

    Raises:
        ConfigError: the key has characters that no header can carry.
    """
    own, at_openai = key_variable(name), _is_openai(url)
    variables = [own] if own != OPENAI_VARIABLE else []
    variables += [OPENAI_VARIABLE] if at_openai else []
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            raise ConfigError(f"the environment variable {variable} holds characters that a key cannot have")
        if value:
            return Key(value, f"check the key in the environment variable {variable}")
    advice = f"set the environment variable {' or '.join(variables)}" if variables else "give it another NAME"
    return Key(advice=advice if at_openai else f"{advice} ({OPENAI_VARIABLE} is sent to https://{_OPENAI_HOST} only)")


def _is_openai(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.hostname == _OPENAI_HOST and parts.port in {None, 443}
