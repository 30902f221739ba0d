"""What asking again repairs and what it breaks: captions whose errors are known, and an MLLM whose errors are too.

python benchmarks/verification.py

draws people, has them captioned by two simulated MLLMs, lets a scorer name suspicious phrases at each threshold, and
asks a third, simulated too, about these. Wrong words are counted before and after: `errors.jsonl` of both tables.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from textreid.captioning import caption
from textreid.captioning.requests import Settings
from textreid.captioning.verification import plan_verification
from textreid.captions.sidecars import error_spans, repairs_of
from textreid.captions.table import read_captions
from textreid.captions.writer import caption_rows
from textreid.inspection.suspicion import phrases_of, score_phrases, scorer_settings, suspicious
from textreid.models import load_model
from textreid.reporting.tables import Table, print_tables
from textreid.synthetic import write_corpus
from textreid.training import captioned_images

FIRST = 2_000_000  # nobody else is numbered so high
Key = tuple[str, str]
Spans = list[tuple[int, int]]


def overlaps(span: tuple[int, int], others: Spans) -> bool:
    """Tell whether a span overlaps with one of others."""
    return any(span[0] < high and low < span[1] for low, high in others)


def words_in(text: str, spans: Spans) -> int:
    """Count the words in spans of a text."""
    return sum(len(text[low:high].split()) for low, high in spans)


def judge(before: Path, after: Path, asked: dict[Key, Spans]) -> list[str]:
    """Compare two tables; returns the cells of a row."""
    old, new = ({(row.image, row.slot): row.caption for row in caption_rows(table)} for table in (before, after))
    wrong, left = error_spans(before), error_spans(after)
    repairs = repairs_of(after)
    phrases = [(key, span) for key, text in old.items() for span in phrases_of(text)]
    is_wrong = {(key, span): overlaps(span, wrong.get(key, [])) for key, span in phrases}
    questions = [(key, span) for key, spans in asked.items() for span in spans]
    changed = {(key, said) for key, line in repairs.items() for said, _ in line["repairs"]}
    touched = [(key, span) for key, span in questions if (key, old[key][slice(*span)]) in changed]
    before_count = sum(words_in(old[key], spans) for key, spans in wrong.items())
    after_count = sum(words_in(new[key], spans) for key, spans in left.items())
    of_wrong = [one for one in questions if is_wrong[one]]
    repaired, broken = sum(is_wrong[one] for one in touched), sum(not is_wrong[one] for one in touched)
    worse = sum(key in left and key not in wrong for key in repairs)
    return [
        f"{len(questions):,}", f"{len(questions) / len(phrases):.1%}", f"{len(of_wrong) / len(questions):.0%}",
        f"{len(of_wrong) / sum(is_wrong.values()):.0%}", f"{repaired:,}", f"{broken:,}", f"{worse:,}",
        f"{before_count:,}", f"{after_count:,}",
    ]  # fmt: skip


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--scorer", default="votes+discriminant+content")
    parser.add_argument("--threshold", type=float, action="append", help="any number; 0.15, 0.3, 0.5 and 0.8 without")
    parser.add_argument("--domain", default="station")
    parser.add_argument("--people", type=int, default=200, help="of two pictures each")
    parser.add_argument("--rate", type=float, default=0.15, help="of wrong colours; other errors in proportion")
    parser.add_argument("--asked-rate", type=float, action="append", help="of who is asked again; 0.15 and 0 without")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_model(options.model)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        people, table = folder / "people", folder / "captions"
        write_corpus(people, options.domain, options.people, 2, options.seed, first_identity=FIRST)
        writers = [f"{name}=simulated:{options.rate}" for name in ("qwen", "shikra")]
        caption(people, table, writers, seed=options.seed, show=False)
        captions, data = read_captions(table), captioned_images(people, table)
        keys = [
            (captions.images[i], captions.slots[s])
            for i, s in zip(captions.image_index, captions.slot_index, strict=True)
        ]
        scored = score_phrases(model, data, scorer_settings(model, options.scorer))
        for threshold in options.threshold or (0.15, 0.3, 0.5, 0.8):
            found = suspicious(scored, threshold)
            asked = {keys[index]: list(spans) for index, spans in found.items()}
            for rate in options.asked_rate or (0.15, 0.0):
                out = folder / f"{threshold}-{rate}"
                plan = plan_verification(
                    people, table, out, [f"qwen=simulated:{rate}"], partial(dict, found), {},
                    settings=Settings(seed=options.seed + 1),
                )  # fmt: skip
                plan.job.run(show=False)
                rows.append([f"{threshold:g}", f"{rate:g}", *judge(table, out, asked)])
        phrases = sum(1 for text in data.captions.to_pylist() for _ in phrases_of(text))
    columns = (
        "threshold", "errors of who is asked", "questions", "of all phrases", "about wrong ones", "of all wrong ones",
        "wrong phrases changed", "right phrases changed", "captions made wrong", "wrong words before", "after",
    )  # fmt: skip
    title = f"{len(data.images)} pictures, {len(data):,} captions, {phrases:,} phrases, {options.rate:.0%} errors"
    print_tables([Table(title, columns, [rows])])


if __name__ == "__main__":
    main()
