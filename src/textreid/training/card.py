"""Records and lines of the start of a run and of the images it leaves out, and the card of its model."""

from pathlib import Path
from typing import Any

import torch

from textreid.config import ModelConfig, OptimizerConfig
from textreid.runlog import ABOUT, LEFT_OUT, RunLog, read_records
from textreid.training.image_store import ImageStore
from textreid.training.losses import chance_levels
from textreid.training.preparation import Run
from textreid.training.runs import diagnose, validations
from textreid.version import __version__, source_commit

_NAMED = 3  # images that are left out are named one by one up to this number


def log_start(run: Run, log: RunLog) -> None:
    """Say and record where the run computes, what it trains and on how much, and what it cannot use."""
    data = run.loader.data
    parameters = {
        name: sum(parameter.numel() for parameter in part.parameters()) for name, part in run.network.named_children()
    }
    # What chance reaches depends on the size of a batch and its positives: the first step stands for all.
    draw = run.loader.sampler.draw(0)
    labels = torch.from_numpy(data.labels[draw.images])
    facts: dict[str, Any] = {
        "device": str(run.compute.device),
        "dtype": str(run.compute.dtype).removeprefix("torch."),
        "reason": run.compute.reason,
        "threads": torch.get_num_threads(),
        "processes": run.processes.count,
        "parameters": parameters["encoder"],
        "parameters_of_heads": sum(parameters.values()) - parameters["encoder"],
        "steps": run.steps,
        "steps_per_epoch": run.loader.sampler.steps_per_epoch,
        "seed": run.config.training.seed,
        "images": len(data.images),
        "captions": len(data),
        "captions_rejected": data.rejected,
        "images_lost": data.images_lost,
        "captions_cut": run.loader.captions.truncated,
        "identities": data.identities,
        "sources": list(data.sources),
        "training_text": run.model.training_text,
        "losses_left_out": list(run.losses_left_out),
        "chance_levels": chance_levels(labels, labels[draw.image_index], data.identities, run.config.losses),
        "version": __version__,
        "commit": source_commit(),
        "data": run.checkpoints.identity.data,
    }
    log.record("resume" if run.resumed else "start", run.start, **facts)
    log.say(_describe_start(run, facts))


def _describe_start(run: Run, facts: dict[str, Any]) -> str:
    parts = [f"{facts['device']}, {facts['dtype']} ({facts['reason']})"]
    parts += [f"{run.processes.count} processes"] if run.processes.count > 1 else []
    parts += [f"{facts['parameters'] / 1e6:.1f} M parameters", f"{run.steps} steps", f"seed {facts['seed']}"]
    amounts = [f"{facts['images']} images", f"{facts['captions']} captions"]
    amounts += [f"{facts['identities']} identities"] if facts["identities"] else []
    notes = [", ".join(parts), ", ".join(amounts)]
    if facts["captions_rejected"]:
        notes.append(f"{facts['captions_rejected']:,} captions rejected")
    if facts["images_lost"]:
        notes.append(f"left out for want of a usable caption or a file: {facts['images_lost']:,} images")
    if facts["captions_cut"]:
        notes.append(f"{facts['captions_cut']:,} captions cut after {run.model.tokenizer.text_length} tokens")
    if run.losses_left_out:
        notes.append(f"no identities, so without the loss {', '.join(run.losses_left_out)}")
    if run.resumed:
        changes = f", with {' and '.join(run.changes)}: equal up to rounding" if run.changes else ""
        notes.append(f"goes on from step {run.start}{changes}")
    return "; ".join(notes)


def log_left_out(images: ImageStore, step: int, log: RunLog) -> None:
    """Say and record which images were found unusable since this was told last, and why."""
    found = images.newly_quarantined()
    if not found:
        return
    log.record(LEFT_OUT, step, images=found)
    for reason in list(found.values())[:_NAMED]:
        log.say(f"left out, with its captions: {reason}")
    if len(found) > _NAMED:
        log.say(f"left out, with their captions: {len(found) - _NAMED:,} more images, named in {log.path}")


def write_card(run: Run, metrics: Path) -> str:
    """Write the text of ``card.md`` for the model at the end of ``run``, whose log is ``metrics``."""
    config = run.config
    records = read_records(metrics)
    # The newest of them: the version and the device that finished the model.
    start = next(record for record in reversed(records) if record["event"] in ("start", "resume"))
    # No step is kept under the rule `last`: the model is then that of the last step.
    kept = run.selection.kept_step or run.steps
    of_kept = [record for record in validations(records, run.selection.validation_set) if record["step"] == kept]
    trained = [record for record in records if record["event"] == "train"]
    losses = ", ".join(f"{name.upper()} * {weight:g}" for name, weight in config.losses.weights().items())
    without = "".join(f"; {name.upper()} off: the data has no identities" for name in start["losses_left_out"])
    model, training, masking = config.model, config.training, config.masking
    scorer = f", layer {masking.layer}" if masking.scorer == "patches" else f", scorer {masking.scorer}"
    scorer = scorer if masking.method == "nam" else ""
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
        f"| weights at the start | {_starting_weights(model)} |",
        f"| images, captions | {start['images']:,}, {start['captions']:,} ({start['captions_rejected']:,} rejected) |",
        f"| captions by | {', '.join(start['sources'])} |",
        f"| identities | {start['identities']:,} |" if start["identities"] else "| identities | unknown |",
        f"| unreadable images, left out | {len(run.loader.images.quarantined):,} |",
        f"| data fingerprint | `{start['data']}` |",
        f"| losses | {losses}, temperature {config.losses.temperature:g}{without} |",
        f"| masking | {masking.method}, p {masking.probability:g}{scorer if masking.method == 'nam' else ''} |",
        f"| epochs | {training.epochs} over every {training.epoch_unit} |",
        f"| steps, batch | {start['steps']:,}, {training.batch_size} |",
        f"| learning rate, warm-up | {config.optimizer.learning_rate:g}, {_warmup(config.optimizer)} |",
        f"| seed | {training.seed} |",
        f"| device, precision | {start['device']}, {start['dtype']} |",
        f"| last loss | {trained[-1]['loss']:.4f} |" if trained else "| last loss | none logged |",
        *([f"| **warning** | {wrong} |"] if (wrong := diagnose(records)) else []),
        f"| selected on | {run.selection.selected_on()} |",
        f"| last and best epoch | {run.selection.describe() or 'not measured'} |",
    ]
    for validation in of_kept:
        figures = {name: value for name, value in validation.items() if name not in ABOUT}
        lines += ["", f"This model (step {kept}) on {validation['validation_set']}:", ""]
        lines += [
            f"- {name}: {value:.4g}" if isinstance(value, float) else f"- {name}: {value}"
            for name, value in figures.items()
        ]
    return "\n".join(lines) + "\n"


def _starting_weights(model: ModelConfig) -> str:
    trunk = f"; trunk of {Path(model.trunk_weights).name}" if model.trunk_weights else ""
    return (model.weights or "random") + trunk


def _warmup(config: OptimizerConfig) -> str:
    at_least = f", at least {config.min_warmup_steps} steps" if config.min_warmup_steps else ""
    return f"{config.warmup_epochs:g} epochs{at_least}"
