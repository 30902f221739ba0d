"""What came of an experiment beside what was published: JSON, tables in Markdown and LaTeX, and a plot."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from textreid.artifacts import read_json, write_json, write_text
from textreid.datasets.benchmarks import PUBLISHED
from textreid.evaluation.published import DIRECT_TRANSFER, published_rows
from textreid.reporting.figures import save_figure
from textreid.reporting.tables import Table, to_latex, to_markdown
from textreid.reproduction.experiments import Row
from textreid.reproduction.intervals import detectable, interval, paired, reference_of
from textreid.reproduction.plans import Plan, training_config
from textreid.reproduction.plots import ALL_UNSEEN, draw_results
from textreid.version import __version__

FORMAT_VERSION = 1
_SCORES = ("R1", "mAP")


def published_scores(row: Row, benchmark: str) -> dict[str, float]:
    """Look up what was published of a row on a benchmark, as fractions of 1; empty where nothing is known."""
    if row.finetune is None:
        setting = DIRECT_TRANSFER
    else:
        setting = "fine-tuned on the target" if row.finetune == benchmark else f"fine-tuned on {row.finetune}"
    found = [one for one in published_rows(benchmark) if (one["name"], one["setting"]) == (row.published, setting)]
    return dict(found[0]["scores"]) if found else {}


def to_results(plan: Plan) -> dict[str, Any]:
    """Gather the reports of the rows that are done."""
    rows: dict[str, dict[str, Any]] = {}
    chance: dict[str, list[float]] = {}
    not_comparable: dict[str, str] = {}
    for planned in plan.rows:
        row = planned.row
        entry = rows.setdefault(
            row.id,
            {
                "id": row.id,
                "label": row.label,
                "size": planned.size,
                "x": _position(row, plan),
                "commands": [list(step.arguments) for step in planned.steps],
                "published": {
                    name: scores
                    # Nothing is published of drawn people; beside them stands what the row reached on CUHK-PEDES.
                    for name in (plan.scale.benchmarks if not plan.scale.drawn else ("cuhk-pedes",))
                    if (scores := published_scores(row, name))
                },
                "measured": {},
            },
        )
        if not planned.report.is_file():
            continue
        report = read_json(planned.report)
        names = {
            # The published name, whatever the folder is called; drawn people have that of their folder.
            one["benchmark"]: one["form"] if one["form"] in PUBLISHED else one["benchmark"]
            for one in report["evaluations"]
        }
        not_comparable |= {
            names[one["benchmark"]]: why for one in report["published"] if (why := one["not_comparable"])
        }
        for evaluation in report["evaluations"]:
            direction = evaluation["text_to_image"]
            by_seed = entry["measured"].setdefault(names[evaluation["benchmark"]], {})
            by_seed[str(planned.seed)] = {name: direction["scores"][name] for name in _SCORES}
            chance.setdefault(names[evaluation["benchmark"]], []).append(direction["chance"]["R1"])
    if plan.scale.drawn:
        for entry in rows.values():
            _add_mean(entry["measured"])
    return {
        "kind": "reproduction",
        "format_version": FORMAT_VERSION,
        "textreid": __version__,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "experiment": plan.experiment.name,
        "title": plan.experiment.title,
        "scale": plan.scale.name,
        "drawn": plan.scale.drawn,
        "reference": plan.experiment.reference,
        "references": dict(plan.experiment.references),
        "bounds": dict(plan.experiment.bounds),
        "x": plan.experiment.x,
        "not_comparable": not_comparable,
        "chance": {benchmark: fmean(values) for benchmark, values in chance.items()},
        "rows": list(rows.values()),
    }


def _add_mean(measured: dict[str, dict[str, dict[str, float]]]) -> None:
    """Add the mean over the benchmarks of each seed: two domains of a hundred people tell more than either."""
    tables = list(measured.values())
    if len(tables) > 1:
        seeds = [seed for seed in tables[0] if all(seed in table for table in tables)]
        measured[ALL_UNSEEN] = {
            seed: {name: fmean(table[seed][name] for table in tables) for name in _SCORES} for seed in seeds
        }


def write_results(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write ``report.json``, ``report.md``, ``report.tex`` and, once there is something, ``plot.png``; returns them."""
    tables = result_tables(results)
    files = [folder / f"report.{form}" for form in ("json", "md", "tex")]
    write_json(files[0], dict(results))
    write_text(files[1], to_markdown(results["title"], tables))
    write_text(files[2], to_latex(tables))
    if figure := draw_results(results):
        files.append(folder / "plot.png")
        save_figure(figure, files[-1])
    return files


def result_tables(results: Mapping[str, Any]) -> list[Table]:
    """Make a table for each benchmark that something was measured on or published for."""
    rows = results["rows"]
    names = dict.fromkeys(name for row in rows for name in ([] if results["drawn"] else row["published"]))
    names |= dict.fromkeys(name for row in rows for name in row["measured"])
    return [_drawn_table(results, name) if results["drawn"] else _paper_table(results, name) for name in names]


def _position(row: Row, plan: Plan) -> float | None:
    """Find where a row stands along the axis of a figure; None where it is not shown."""
    setting, scale = plan.experiment.x, plan.scale
    # The row that others are compared with has no place on the axis: EM uses no layer.
    if setting is None or row.weights or (row.id == plan.experiment.reference):
        return None
    if setting == "images":
        images = scale.images_of(row)
        return None if images is None else float(images)
    section, name = setting.split(".")
    return float(getattr(getattr(training_config(row, scale), section), name))


def _paper_table(results: Mapping[str, Any], benchmark: str) -> Table:
    rows = []
    for row in results["rows"]:
        published, measured = row["published"].get(benchmark, {}), row["measured"].get(benchmark, {})
        cells = [row["label"]]
        for score in _SCORES:
            mean = fmean(values[score] for values in measured.values()) if measured else None
            known = published.get(score)
            # No difference where the report says why not, as with a list of images that is not the published one.
            comparable = mean is not None and known is not None and benchmark not in results["not_comparable"]
            cells += [_percent(known), _percent(mean), _points(mean - known) if comparable else ""]
        rows.append(cells)
    columns = ["", *(f"{score} {what}" for score in _SCORES for what in ("published", "measured", "difference"))]
    return Table(f"{results['title']}: {benchmark}, %", columns, [rows], _notes(results, benchmark))


def _drawn_table(results: Mapping[str, Any], benchmark: str) -> Table:
    measured = {row["id"]: row["measured"].get(benchmark, {}) for row in results["rows"]}
    references = {name: other for name in measured if (other := reference_of(results, name))}
    differences = {
        score: {name: paired(measured[name], measured[other], score) for name, other in references.items()}
        for score in _SCORES
    }
    bounds = results["bounds"]
    rows = []
    for row in results["rows"]:
        name = row["id"]
        cells = [row["label"], *(_with_interval([one[score] for one in measured[name].values()]) for score in _SCORES)]
        if references:
            cells += [_difference(differences[score].get(name, ())) for score in _SCORES]
        if bounds:
            gains = differences["R1"]
            cells.append(_share(gains.get(name, ()), gains.get(bounds.get(name, ""), ())))
        rows.append([*cells, _percent(row["published"].get("cuhk-pedes", {}).get("R1"))])
    columns = ["", *_SCORES, *([f"{score} difference" for score in _SCORES] if references else [])]
    columns += ["share of bound"] if bounds else []
    notes = _notes(results, benchmark)
    if references:
        notes += _notes_on_differences(results, references, differences)
    where = benchmark if benchmark == ALL_UNSEEN else f"drawn people of {benchmark}"
    return Table(f"{results['title']}: {where}, %", [*columns, "published CUHK-PEDES R1"], [rows], notes)


def _notes_on_differences(
    results: Mapping[str, Any],
    references: Mapping[str, str],
    differences: Mapping[str, Mapping[str, Sequence[float]]],
) -> list[str]:
    labels = {row["id"]: row["label"] for row in results["rows"]}
    others: dict[str, list[str]] = {}
    for row, other in references.items():
        if other != results["reference"]:
            others.setdefault(labels[other], []).append(labels[row])
    usual = f"'{labels[results['reference']]}'" if results["reference"] in references.values() else ""
    against = [*([usual] if usual else []), *(f"'{other}' for {', '.join(of)}" for other, of in others.items())]
    lines = [f"difference: to {'; '.join(against)}; of equal seeds: the same people and captions"]
    smallest = {score: found for score in _SCORES if (found := detectable(list(differences[score].values())))}
    if smallest:
        points = " and ".join(f"{100 * found:.1f} points of {score}" for score, found in smallest.items())
        lines.append(f"power: a true difference of {points} is told from 0 four times in five with these seeds")
    if results["bounds"]:
        lines.append("share of bound: of the oracle's gain in R1, where that is above 0 beyond chance")
    return lines


def _with_interval(values: Sequence[float]) -> str:
    if not values:
        return ""
    ends = interval(values)
    return _percent(fmean(values)) + (f"\n[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else "")


def _difference(differences: Sequence[float]) -> str:
    """Write the mean difference over seeds with its interval."""
    if not differences:
        return ""
    ends = interval(differences)
    return _points(fmean(differences)) + (f"\n[{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]" if ends else "")


def _share(differences: Sequence[float], bound: Sequence[float]) -> str:
    """Write a gain as a share of the bound's, where the bound's is a gain beyond chance."""
    ends = interval(bound)
    if not differences or ends is None or ends[0] <= 0:
        return ""
    return f"{fmean(differences) / fmean(bound):.2f}"


def _notes(results: Mapping[str, Any], benchmark: str) -> list[str]:
    lines = []
    if benchmark in results["chance"]:
        lines.append(f"random order: R1 {_percent(results['chance'][benchmark])}")
    seeds = {seed for row in results["rows"] for seed in row["measured"].get(benchmark, {})}
    if seeds:
        lines.append(f"seeds: {', '.join(sorted(seeds, key=int))}")
    if len(seeds) > 1:
        lines.append("[low, high]: 95 % interval of a mean over seeds, by Student's t")
    if results["drawn"]:
        lines.append("drawn people, a tiny network in CLIP's place: nothing here is a figure of the paper's method")
    if benchmark in results["not_comparable"]:
        lines.append(results["not_comparable"][benchmark])
    lines += [f"not measured: {row['label']}" for row in results["rows"] if not row["measured"].get(benchmark)]
    return lines


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _points(difference: float) -> str:
    # The z takes the sign off a zero: not "-0.00".
    return f"{100 * difference:+z.2f}"
