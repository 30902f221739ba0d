"""Examines a benchmark, a caption table or a folder of images: what is there, what is wrong, what to do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from textreid.captions.table import read_captions
from textreid.captions.writer import is_table
from textreid.datasets.benchmarks import (
    FORMS,
    GENERIC,
    PUBLISHED,
    CountCheck,
    Counts,
    check_counts,
    count,
    form_of,
    read_benchmark,
)
from textreid.datasets.doctor.findings import (
    RULES,
    Finding,
    in_annotations,
    in_captions,
    in_listing,
    in_pictures,
    in_table_names,
    sizes,
    unlisted,
)
from textreid.datasets.doctor.manifest import Manifest, benchmark_manifest, folder_manifest, table_manifest
from textreid.datasets.doctor.survey import Progress, Survey, survey
from textreid.datasets.records import Benchmark
from textreid.errors import AnnotationError, ConfigError, DataError, nearest_name
from textreid.listing import list_images, name_on_disk
from textreid.reporting.tables import Table

FOLDER, TABLE = "images", "captions"  # forms besides those of benchmarks


@dataclass(frozen=True)
class Diagnosis:
    """What an examination found.

    Attributes:
        path: what was examined.
        form: what it was read as: a benchmark's form, ``"images"`` or ``"captions"``.
        splits: size of each split of a benchmark; of the rest one entry named ``"all"``.
        checks: of the size of a published benchmark's splits.
        findings: rules that were broken, the worst first.
        sizes: least, median and greatest ``width`` and ``height`` in pixels, and ``aspect`` (height over width).
        decoded: number of images that were looked at.
        seconds: that looking at them took.
        manifest: what can be used: everything that is listed, present and readable.
        guessed: whether nobody said what this is and it might be CUHK-PEDES.
    """

    path: Path
    form: str
    splits: dict[str, Counts]
    checks: tuple[CountCheck, ...]
    findings: tuple[Finding, ...]
    sizes: dict[str, list[float]]
    decoded: int
    seconds: float
    manifest: Manifest
    guessed: bool = False

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong; notes do not count."""
        return not any(RULES[finding.rule].wrong for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as JSON values."""
        return {
            "path": str(self.path),
            "form": self.form,
            "healthy": self.healthy,
            "splits": {name: asdict(counts) for name, counts in self.splits.items()},
            "verdicts": [asdict(check) for check in self.checks],
            "findings": [
                {"rule": finding.rule, "count": finding.count, "examples": list(finding.examples)}
                | asdict(RULES[finding.rule])
                | {"minutes": finding.minutes}
                for finding in self.findings
            ],
            "sizes": self.sizes,
            "decoded": self.decoded,
            "seconds": self.seconds,
            "manifest": self.manifest.facts,
        }


def examine(
    path: Path, form: str | None = None, images: Path | None = None, progress: Progress | None = None
) -> Diagnosis:
    """Examine a benchmark, a caption table or a folder of images; every image is decoded.

    Args:
        path: what to examine.
        form: of a benchmark, or a label of one's own, as `read_benchmark` takes it; None: told from the names of the
            files. A folder in CUHK-PEDES form is then taken for one's own, whose size nobody published.
        images: the image root of a caption table; without it only the captions are examined.
        progress: called as images are decoded.

    Raises:
        ConfigError: the form is a slip of the name of a benchmark.
        AnnotationError: the annotations cannot be read at all.
        CaptionError: the caption table cannot be read.
        DataError: there is nothing here that could be examined; says what to do with shards and released files.
    """
    slip = nearest_name(form, PUBLISHED) if form and form.lower().replace("_", "-") not in FORMS else ""
    if slip.startswith("did you mean"):  # as a label it would be compared with no published size, in silence
        raise ConfigError(f"benchmark {form!r}: no such benchmark; {slip}")
    if form is None and is_table(path):
        return _examine_table(path, images, progress)
    if images is not None:
        raise DataError(f"{path}: an image root is needed for a caption table only, and this is not one")
    found = form or form_of(path)
    if found:
        # reid_raw.json is also what people call their own data, which has no published size.
        guessed = form is None and found == "cuhk-pedes"
        # What is missing is a finding here, not a reason to stop.
        benchmark = read_benchmark(GENERIC if guessed else found, path, max_rejected=1.0)
        return replace(_examine_benchmark(path, benchmark, progress), guessed=guessed)
    return _examine_folder(path, progress)


def _examine_benchmark(path: Path, benchmark: Benchmark, progress: Progress | None) -> Diagnosis:
    root = benchmark.image_root
    listed = [record.image for record in benchmark.records]
    seen = survey(root, listed, progress)
    listing = list_images(root)
    present = (image.relative_to(root).as_posix() for image in listing.images)
    checks = check_counts(benchmark)
    wrong = sum(not check.as_published for check in checks)
    findings = [
        *([Finding("counts", wrong, ())] if wrong else []),
        *in_annotations(benchmark),
        *in_pictures(seen, benchmark),
        *in_listing(listing),
        *unlisted(present, [*listed, *(rejection.image for rejection in benchmark.rejected)]),
    ]
    splits = {split: count(benchmark, split) for split in benchmark.splits}
    # Only what could be decoded: the manifest is of what an evaluation can use.
    usable = replace(benchmark, records=tuple(r for r in benchmark.records if r.image in seen.pictures))
    manifest = benchmark_manifest(usable, seen.contents)
    return _diagnosis(path, benchmark.form, splits, findings, seen, manifest, checks)


def _examine_table(path: Path, root: Path | None, progress: Progress | None) -> Diagnosis:
    table = read_captions(path)
    findings = in_captions(table)
    seen = Survey({}, {}, 0.0)
    if root:
        listing = list_images(root)
        # The absent ones are a finding of their own, and would else be unreadable as well.
        present = [image for image in table.images if (root / name_on_disk(root, image)).is_file()]
        seen = survey(root, present, progress)
        findings += [*in_table_names(table.images, root), *in_listing(listing), *in_pictures(seen)]
    manifest = table_manifest(path.resolve().name, table, seen.contents if root else None)
    return _diagnosis(path, TABLE, {"all": Counts(len(table.images), len(table), 0)}, findings, seen, manifest)


def _examine_folder(path: Path, progress: Progress | None) -> Diagnosis:
    _refuse_what_must_be_imported(path)
    listing = list_images(path)
    listed = [image.relative_to(path).as_posix() for image in listing.images]
    if not listed:
        reasons = ["no images below this folder, and no benchmark or caption table", *listing.notes()]
        raise DataError(f"{path}: {'; '.join(reasons)}")
    seen = survey(path, listed, progress)
    findings = [*in_pictures(seen), *in_listing(listing)]
    manifest = folder_manifest(path.resolve().name, seen.contents)
    return _diagnosis(path, FOLDER, {"all": Counts(len(listed), 0, 0)}, findings, seen, manifest)


def _diagnosis(
    path: Path,
    form: str,
    splits: dict[str, Counts],
    findings: Sequence[Finding],
    seen: Survey,
    manifest: Manifest,
    checks: tuple[CountCheck, ...] = (),
) -> Diagnosis:
    order = list(RULES)
    worst_first = tuple(sorted(findings, key=lambda finding: order.index(finding.rule)))
    decoded = len(seen.pictures) + len(seen.unreadable)
    return Diagnosis(
        path, form, splits, checks, worst_first, sizes(seen.pictures.values()), decoded, seen.seconds, manifest
    )


def _refuse_what_must_be_imported(path: Path) -> None:
    # A backup beside pictures is no reason to refuse them.
    if path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar")) and not list_images(path).images):
        raise DataError(f"{path}: shards are unpacked first: textreid unpack {path} --out FOLDER")
    # A folder of released captions has no images: without this, the error would be that there are none.
    released = sorted(path.glob("T[sd]-*.json")) if path.is_dir() else []
    if released:
        raise DataError(
            f"{path}: released captions are imported first: textreid captions import {path} --images IMAGES "
            "--out TABLE, then textreid doctor TABLE --images IMAGES"
        )
    if path.is_file():
        known = ", ".join(f"{known.title} ({known.layout.files[0]})" for known in PUBLISHED.values())
        raise AnnotationError(f"{path}: no table of annotations; give a folder, or the folder of {known}")


# -- the printed form ------------------------------------------------------------------------------------------------


def diagnosis_tables(diagnosis: Diagnosis) -> list[Table]:
    """Lay out the sizes of the splits, then the findings."""
    rows = [
        (name, f"{counts.images:,}", f"{counts.captions:,}", f"{counts.identities:,}" if counts.identities else "-")
        for name, counts in diagnosis.splits.items()
    ]
    splits = Table(
        title=f"{diagnosis.path}, read as {diagnosis.form}",
        columns=("split", "images", "captions", "people"),
        groups=[rows],
        notes=[*(check.text for check in diagnosis.checks), *_lines(diagnosis)],
    )
    return [splits, _findings(diagnosis.findings)] if diagnosis.findings else [splits]


def _findings(findings: Sequence[Finding]) -> Table:
    return Table(
        title="Findings",
        columns=("", "count", "finding", "what to do", "by eye"),
        groups=[[_row(finding)] for finding in findings],
        texts=frozenset({0, 2, 3}),
    )


def _row(finding: Finding) -> tuple[str, ...]:
    rule = RULES[finding.rule]
    found = "".join([rule.what, *(f"\n  {example:.100}" for example in finding.examples)])
    by_eye = f"{max(1, round(finding.minutes))} min" if finding.minutes else "-"
    return "WRONG" if rule.wrong else "note", f"{finding.count:,}", found, rule.advice, by_eye


def _lines(diagnosis: Diagnosis) -> list[str]:
    lines = []
    if diagnosis.sizes:
        spans = (f"{name} {low:g} / {mid:g} / {high:g}" for name, (low, mid, high) in diagnosis.sizes.items())
        lines.append(f"pixels, least / median / greatest: {', '.join(spans)}")
    if diagnosis.decoded:
        # A clock may not have moved for a handful of images.
        rate = diagnosis.decoded / max(diagnosis.seconds, 1e-9)
        lines.append(f"decoded {diagnosis.decoded:,} images in {diagnosis.seconds:.1f} s, {rate:,.0f} a second")
    if diagnosis.guessed:
        lines.append("in CUHK-PEDES form; if it is CUHK-PEDES, --benchmark cuhk-pedes checks its size")
    wrong = sum(RULES[finding.rule].wrong for finding in diagnosis.findings)
    notes = len(diagnosis.findings) - wrong
    lines.append(f"{wrong or 'nothing'} wrong, {notes} to note")
    return lines
