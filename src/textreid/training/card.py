"""The model card: what a trained model is, where it comes from, and what was measured."""

from collections.abc import Mapping
from pathlib import Path

from textreid.config import Config
from textreid.runlog import read_records

_ROOT = Path(__file__).parents[3]


def write_card(config: Config, metrics: Path, quarantined: Mapping[int, str], selected_on: str) -> str:
    """The text of ``card.md`` for the model at the end of the run whose log is ``metrics``."""
    records = read_records(metrics)
    start = next(record for record in reversed(records) if record["event"] in ("start", "resume"))
    validations = [record for record in records if record["event"] == "validation"]
    trained = [record for record in records if record["event"] == "train"]
    losses = ", ".join(
        f"{name} * {weight:g}" for name, weight in (("SDM", config.losses.sdm), ("ITC", config.losses.itc)) if weight
    )
    model, training, masking = config.model, config.training, config.masking
    lines = [
        "# Model card",
        "",
        "A dual encoder that ranks pictures of people by a sentence in English.",
        "",
        "| | |",
        "| --- | --- |",
        f"| made by | textreid {start['version']}, commit {start['commit'] or 'unknown'} |",
        f"| parameters | {start['parameters']:,} |",
        f"| image, patch | {model.image_height} by {model.image_width}, {model.patch_size} |",
        f"| weights at the start | {model.weights or 'random'} |",
        f"| images, captions | {start['images']:,}, {start['captions']:,} ({start['captions_rejected']:,} rejected) |",
        f"| unreadable images, left out | {len(quarantined):,} |",
        f"| data fingerprint | `{start['data']}` |",
        f"| losses | {losses}, temperature {config.losses.temperature:g} |",
        f"| masking | {masking.method}, p {masking.probability:g}, layer {masking.layer} |",
        f"| epochs | {training.epochs} over every {training.epoch_unit} |",
        f"| steps, batch | {start['steps']:,}, {training.batch_size} |",
        f"| learning rate, warm-up | {config.optimizer.learning_rate:g}, {config.optimizer.warmup_epochs:g} epochs |",
        f"| seed | {training.seed} |",
        f"| device, precision | {start['device']}, {start['dtype']} |",
        f"| last loss | {trained[-1]['loss']:.4f} |" if trained else "| last loss | none logged |",
        f"| selected on | {selected_on} |",
    ]
    if validations:
        figures = {name: value for name, value in validations[-1].items() if name not in ("event", "step", "epoch")}
        lines += ["", "Measured on the validation set of the run after the last step:", ""]
        lines += [
            f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"
            for name, value in figures.items()
        ]
    return "\n".join(lines) + "\n"


def source_commit() -> str | None:
    """The commit of the source checkout this package runs from; None when it is installed."""
    git = _ROOT / ".git"
    if not ((_ROOT / "pyproject.toml").is_file() and (git / "HEAD").is_file()):
        return None
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    reference = git / head.removeprefix("ref: ")
    return reference.read_text().strip() if reference.is_file() else None
