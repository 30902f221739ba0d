"""Templates filled by whoever knows what goes into their slots."""

import re
from collections.abc import Callable

_PART = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\[([^\[\]]*)\]")


def fill(pattern: str, phrase: Callable[[str], str | None], nothing: Callable[[str], str]) -> str:
    """The pattern with its slots filled; of each optional part the first alternative that can be filled.

    Args:
        pattern: text with ``[slots]`` and ``{parts that may go|what then stands there}``.
        phrase: what stands in a slot, by the slot's text; None where there is nothing to say.
        nothing: what stands in a slot for which ``phrase`` is None and which no optional part takes away.
    """

    def try_to_fill(text: str) -> str | None:
        filled, end = "", 0
        for match in _SLOT.finditer(text):
            said = phrase(match[1])
            if said is None:
                return None
            filled += text[end : match.start()] + said
            end = match.end()
        return filled + text[end:]

    def part(match: re.Match[str]) -> str:
        return next((text for text in map(try_to_fill, match[1].split("|")) if text is not None), "")

    return _SLOT.sub(lambda match: phrase(match[1]) or nothing(match[1]), _PART.sub(part, pattern))
