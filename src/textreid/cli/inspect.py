"""``textreid inspect``: a picture and its captions as a model sees them."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.inspection.words import Inspection


def inspect(
    model: str = typer.Argument(
        help="A run folder, finished or not; a model folder; small or tiny, which are bundled; CLIP on the hub."
    ),
    image: Path = typer.Option(..., metavar="FILE", help="The picture."),
    captions: Path | None = typer.Option(None, metavar="FOLDER", help="A caption table that has captions of it."),
    caption: list[str] = typer.Option([], metavar="TEXT", help="A caption of your own; any number."),
    out: Path = typer.Option(Path("inspection"), metavar="NAME", help="Writes NAME.png and NAME.html."),
    layer: int | None = typer.Option(None, help="Of the towers' tokens; else that of the run, or the usual one."),
    json: bool = typer.Option(False, "--json", help="Print the figures of every word as JSON."),
) -> None:
    """Show each word of a picture's captions: how noisy it is, which patches answer, what is gained without it."""
    if captions is None and not caption:
        raise ConfigError("give --captions, a caption table, or --caption 'a sentence'")
    from io import BytesIO

    from textreid.artifacts import write_bytes, write_text
    from textreid.inspection.page import draw_inspection, to_html
    from textreid.inspection.words import captions_of, inspect_image

    texts = [*(captions_of(captions, image) if captions else []), *(("your caption", text) for text in caption)]
    inspection = inspect_image(model, image, texts, layer)
    stream = BytesIO()
    draw_inspection(inspection).save(stream, "PNG")
    # Not with_suffix: a NAME with a dot in it would lose what follows the dot.
    written = [out.with_name(f"{out.name}{suffix}") for suffix in (".png", ".html")]
    write_bytes(written[0], stream.getvalue())
    write_text(written[1], to_html(inspection))
    typer.echo(dumps(_plain(inspection), indent=2, ensure_ascii=False) if json else "\n".join(map(str, written)))


def _plain(inspection: "Inspection") -> dict[str, Any]:
    return {
        "image": inspection.name,
        "model": inspection.source,
        "layer": inspection.masking.layer,
        "captions": [
            {
                "label": caption.label,
                "caption": caption.text,
                "similarity": caption.similarity,
                "words": [
                    {
                        "word": word.text,
                        "noise": word.noise,
                        "probability": word.probability,
                        "evidence": word.evidence,
                        "patch": word.patch,
                    }
                    for word in caption.words
                ],
            }
            for caption in inspection.captions
        ],
    }
