"""``textreid templates``: the sentence templates of the dynamic instruction."""

from json import dumps
from pathlib import Path

import typer

templates = typer.Typer(help="List templates, or discover new ones with an LLM.", no_args_is_help=True)


@templates.command("list")
def list_(
    file: Path | None = typer.Argument(None, metavar="[FILE]", help="A file of templates; our own without."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object of patterns by name."),
) -> None:
    """Show templates as an MLLM is shown them; a file's errors are named by line."""
    from textreid.captioning.templates import own_templates, read_templates

    found = read_templates(file) if file else own_templates()
    if json:
        typer.echo(dumps({name: template.pattern for name, template in found.items()}, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for name in found)
    for name, template in found.items():
        typer.echo(f"{name:<{width}}  {template.text}")


@templates.command()
def discover(
    llm: str = typer.Option(..., metavar="URL#MODEL", help="An OpenAI-compatible endpoint; its key: LLM_API_KEY."),
    captions: Path = typer.Option(..., metavar="TABLE", help="A caption table; its static captions are shown."),
    out: Path = typer.Option(..., metavar="FOLDER", help="For templates.toml and the dialogue; the same one goes on."),
    sample: int = typer.Option(40, min=1, help="Captions to show, of all MLLMs together."),
    wanted: int = typer.Option(46, min=1, help="Templates to end with."),
    seed: int = typer.Option(0, min=0, help="Of the sample."),
) -> None:
    """Let an LLM find sentence templates in captions, over several turns; run it again to go on after a fault."""
    from textreid.captioning.backends.addresses import checked_url, destination, key_for
    from textreid.captioning.discovery import TEMPLATES, TURNS, ChatModel, discover_templates
    from textreid.errors import ConfigError

    url, _, model = llm.partition("#")
    url = checked_url(url, "--llm")
    if not model:
        raise ConfigError("--llm: expected URL#MODEL, such as --llm http://localhost:8000/v1#Qwen/Qwen3-8B")
    # Read before anything is sent: a table without static captions costs no call.
    shown = _static_sample(captions, sample, seed)
    chat = ChatModel(url, model, key_for("llm", url))
    typer.echo(f"captions, without pictures, go to {destination(url)}", err=True)
    order = {name: number for number, name in enumerate(TURNS, 1)}

    def tell(turn: str, count: int) -> None:
        for notice in chat.dialect.notices:
            typer.echo(f"from now on textreid {notice}", err=True)
        # Each is told once.
        chat.dialect.notices.clear()
        typer.echo(f"turn {order[turn]} of {len(TURNS)}, {turn}: {count} templates", err=True)

    found = discover_templates(chat, shown, out, wanted, tell)
    typer.echo(f"{len(found)} templates of distinct structure; read through them before you use them", err=True)
    typer.echo(out / TEMPLATES)


def _static_sample(table: Path, count: int, seed: int) -> list[str]:
    """Draw static captions of a table by chance; the same for equal seeds."""
    import numpy as np

    from textreid.captions.table import read_captions
    from textreid.errors import CaptionError
    from textreid.seeding import generator

    read = read_captions(table)
    # Static captions only: those by templates would give back the templates that we have.
    static = [number for number, slot in enumerate(read.slots) if slot.endswith("/static")]
    rows = np.flatnonzero(np.isin(read.slot_index, static))
    if not len(rows):
        raise CaptionError(
            f"{table}: has no static captions, which templates are discovered in; its slots: {', '.join(read.slots)}"
        )
    drawn = generator(seed, "templates").permutation(rows)[:count]
    return [read.caption(row) for row in drawn.tolist()]
