"""The model card: what a trained model is, where it comes from, and what was measured."""

from pathlib import Path

from textreid.config import OptimizerConfig
from textreid.runlog import ABOUT, read_records
from textreid.training.diagnosis import complaint
from textreid.training.preparation import Run
from textreid.training.selection import validations


def write_card(run: Run, metrics: Path) -> str:
    """The text of ``card.md`` for the model at the end of ``run``, whose log is ``metrics``."""
    config = run.config
    records = read_records(metrics)
    start = next(record for record in reversed(records) if record["event"] in ("start", "resume"))
    kept = run.selection.kept_step or run.steps
    of_kept = [record for record in validations(records, run.selection.on) if record["step"] == kept]
    trained = [record for record in records if record["event"] == "train"]
    losses = ", ".join(f"{name.upper()} * {weight:g}" for name, weight in config.losses.weights().items())
    without = "".join(f"; {name.upper()} off: the data has no identities" for name in start["losses_left_out"])
    model, training, masking = config.model, config.training, config.masking
    layer = f", layer {masking.layer}" if masking.method == "nam" else ""
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
        f"| captions by | {', '.join(start['sources'])} |",
        f"| identities | {start['identities']:,} |" if start["identities"] else "| identities | unknown |",
        f"| unreadable images, left out | {len(run.images.quarantined):,} |",
        f"| data fingerprint | `{start['data']}` |",
        f"| losses | {losses}, temperature {config.losses.temperature:g}{without} |",
        f"| masking | {masking.method}, p {masking.probability:g}{layer} |",
        f"| epochs | {training.epochs} over every {training.epoch_unit} |",
        f"| steps, batch | {start['steps']:,}, {training.batch_size} |",
        f"| learning rate, warm-up | {config.optimizer.learning_rate:g}, {_warmup(config.optimizer)} |",
        f"| seed | {training.seed} |",
        f"| device, precision | {start['device']}, {start['dtype']} |",
        f"| last loss | {trained[-1]['loss']:.4f} |" if trained else "| last loss | none logged |",
        *([f"| **warning** | {wrong} |"] if (wrong := complaint(records)) else []),
        f"| selected on | {run.selection.selected_on()} |",
        f"| last and best epoch | {run.selection.describe() or 'not measured'} |",
    ]
    for validation in of_kept:
        figures = {name: value for name, value in validation.items() if name not in ABOUT}
        lines += ["", f"This model (step {kept}) on {validation['watched']}:", ""]
        lines += [
            f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"
            for name, value in figures.items()
        ]
    return "\n".join(lines) + "\n"


def _warmup(config: OptimizerConfig) -> str:
    least = f", at least {config.min_warmup_steps} steps" if config.min_warmup_steps else ""
    return f"{config.warmup_epochs:g} epochs{least}"
