"""``textreid convert``: any model that can be loaded, in another form; ``textreid models``: which are known to load."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from textreid.evaluation.agreement import Agreement
    from textreid.models import Model
    from textreid.models.export.onnx_model import OnnxModel

Form = Literal["model", "onnx", "huggingface"]


def convert(
    source: str = typer.Argument(help="small or tiny (bundled), a model folder, or a CLIP: file, folder or hub name."),
    out: Path = typer.Argument(help="The folder to write."),
    to: Form = typer.Option("model", "--to", help="Our folder, two ONNX graphs, or transformers' CLIP."),
    image_size: str | None = typer.Option(
        None, "--image-size", metavar="HxW", help="Fit the model to images of so many pixels, as in 384x128."
    ),
    activation: Literal["gelu", "quick_gelu"] | None = typer.Option(
        None, "--activation", help="Of a checkpoint that does not tell its own."
    ),
    int8: bool = typer.Option(False, "--int8", help="ONNX: multiply 8-bit integers, and measure what that loses."),
    measure: Path | None = typer.Option(
        None, "--measure", metavar="FOLDER", help="Measure it on this benchmark (its test split), not on drawn people."
    ),
    license_id: str | None = typer.Option(
        None, "--license", metavar="ID", help="Hugging Face: licence of the weights, as the hub spells it."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Write a model in another form: a folder of textreid, ONNX, or a repository for the Hugging Face hub.

    What became of each tensor of the source is told on stderr. The features stay the same, except with
    --int8, whose loss is measured, printed and written into the card.
    """
    size = _parse_size(image_size)
    # Before torch is imported, which takes some 2 s: options that contradict each other are told at once.
    _check_options(to, int8, measure, license_id)
    from textreid.models import load_model

    model = load_model(source, image_size=size, device="cpu", activation=activation)
    typer.echo(str(model.report), err=True)
    card = _describe_origin(source, model)
    facts: dict[str, Any] = {"out": str(out), "form": to, "fingerprint": model.fingerprint}
    if to == "model":
        model.save(out, card)
    elif to == "huggingface":
        from textreid.models.export.huggingface import export_huggingface

        export_huggingface(model, out, card, license_id)
    else:
        loss = _export_onnx(model, out, card, int8, measure)
        facts |= {"int8_loss": loss.to_dict()} if loss else {}
        if loss and not json:
            typer.echo(loss.to_markdown() + "\n")
    facts["bytes"] = sum(file.stat().st_size for file in out.iterdir())
    if json:
        typer.echo(dumps(facts, indent=2))
    else:
        typer.echo(f"{out}: {to}, {facts['bytes']:,} bytes, model {model.fingerprint[:12]}")


def _describe_origin(source: str, model: "Model") -> str:
    """Write in Markdown how the model was converted, after the card of a source that has one."""
    from textreid.artifacts import MANIFEST
    from textreid.models.folder import BUNDLED, CARD
    from textreid.version import __version__

    folder = BUNDLED.get(source, Path(source))
    lines = [
        f"Converted by textreid {__version__} from `{folder.name}`, "
        f"fingerprint `{model.fingerprint}`, for images of {model.config.image_height} by "
        f"{model.config.image_width} pixels. Checkpoint selected on {model.selected_on or 'data that is not recorded'}."
    ]
    own = folder / CARD
    if (folder / MANIFEST).is_file() and own.is_file():
        return "\n".join([own.read_text(encoding="utf-8").rstrip(), "", "## Conversion", "", *lines]) + "\n"
    unknown = "The source has no card that textreid reads: its training data, licence and metrics are not known here."
    return "\n".join(["# Model card", "", *lines, "", unknown]) + "\n"


def _export_onnx(model: "Model", out: Path, card: str, int8: bool, measure: Path | None) -> "Agreement | None":
    """Export; with ``int8`` measure what that loses, write it into the card, and return it."""
    from tempfile import TemporaryDirectory

    from textreid.datasets.benchmarks import read_benchmark
    from textreid.evaluation.agreement import draw_benchmark, measure_agreement
    from textreid.models.export.onnx import export_onnx

    if not int8:
        export_onnx(model, out, lambda _: card)
        return None
    # The card tells the loss, the loss is measured on the exported graphs, and the folder is written once: a callback.
    found: list[Agreement] = []
    with TemporaryDirectory() as scratch:
        # A wrong folder is told before the export, which takes seconds.
        benchmark = (
            read_benchmark("generic", measure).split("test") if measure else draw_benchmark(Path(scratch) / "drawn")
        )

        def measured_card(exported: "OnnxModel") -> str:
            found.append(measure_agreement(model, exported, benchmark))
            return f"{card}\n## Loss by 8-bit integers\n\n{found[0].to_markdown()}\n"

        export_onnx(model, out, measured_card, int8=True)
    return found[0]


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, separator, width = text.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not a size like 384x128 (height x width)")
    return int(height), int(width)


def _check_options(to: Form, int8: bool, measure: Path | None, license_id: str | None) -> None:
    if int8 and to != "onnx":
        raise typer.BadParameter("--int8 needs --to onnx")
    if measure and not int8:
        raise typer.BadParameter("--measure needs --int8: nothing else changes what the model computes")
    if license_id and to != "huggingface":
        raise typer.BadParameter("--license needs --to huggingface")


def models(json: bool = typer.Option(False, "--json", help="Print a JSON list.")) -> None:
    """List models that are known to load: licence, what they learned from, published figures, what was verified.

    Any other CLIP that docs/checkpoints.md describes loads too, by its path or its name on the Hugging Face hub.
    """
    from textreid.models.known import KNOWN

    if json:
        typer.echo(dumps([model._asdict() for model in KNOWN], indent=2, ensure_ascii=False))
        return
    benchmarks = ("CUHK-PEDES", "ICFG-PEDES", "RSTPReid")
    for model in KNOWN:
        figures = ", ".join(f"{r1} on {name}" for name, r1 in zip(benchmarks, model.direct_transfer, strict=False))
        typer.echo(model.name)
        for what, value in (
            ("from", model.source),
            ("licence", model.licence),
            ("trained on", model.trained_on),
            ("R1 in % without training there", figures or "not published"),
            ("verified", model.verified),
        ):
            typer.echo(f"    {what}: {value}")
    typer.echo('\nuse one: textreid search "a woman in a red jacket" --images FOLDER --model clip')
