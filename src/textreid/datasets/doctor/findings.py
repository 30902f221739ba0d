"""What can be wrong with a data set, how bad it is, and what to do about it."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from textreid.captions.language import is_unicode
from textreid.captions.table import CaptionTable
from textreid.datasets.doctor.survey import Picture, Survey, near_equal
from textreid.datasets.entries import LOST_CAPTIONS
from textreid.datasets.records import Benchmark
from textreid.images import SMALLEST
from textreid.listing import ImageListing, name_on_disk

_EXAMPLES = 3


@dataclass(frozen=True)
class Rule:
    """A kind of finding.

    Attributes:
        wrong: whether the data must not be used like this; else it is worth knowing.
        what: the finding in words.
        advice: what to do.
        seconds: that a person needs to settle one case by eye; 0 where a command settles them all.
    """

    wrong: bool
    what: str
    advice: str
    seconds: int = 0


# In the order in which findings are printed, the worst first.
RULES: dict[str, Rule] = {
    "counts": Rule(True, "splits without the published size", "see the verdicts above"),
    "absent": Rule(True, "images listed but absent", "unpack the archive of images again, wholly"),
    "odd-entries": Rule(
        True, "entries of the folder that cannot be followed", "give permission to read them, or remove them"
    ),
    "unreadable": Rule(True, "images that cannot be decoded", "get these files from their source again"),
    "contradicting": Rule(
        True, "entries that give an image to another person or split", "keep the right entry of each image", 30
    ),
    "identity-in-splits": Rule(
        True,
        "identities in more than one split",
        "move each person to one split; if every split numbers its own people, number them apart",
    ),
    "picture-of-two": Rule(
        True, "equal pictures given to different people", "look at each group: one annotation is wrong", 30
    ),
    "picture-in-splits": Rule(True, "equal pictures in more than one split", "delete them from the training split"),
    "useless-captions": Rule(
        True, "captions that are empty or say nothing", "they are left out; write them or delete them", 30
    ),
    "blank": Rule(
        False,
        "pictures that show nothing: one colour, noise, a pattern",
        "leave them out: what is said of them is invented",
    ),
    "cut": Rule(False, "pictures whose files lack their end", "none, or get them again: the end is made up"),
    "not-read": Rule(
        False,
        "pictures and videos in formats that are not read",
        "convert them, or pip install 'textreid[heic]' for .heic; else they are not used",
    ),
    "by-products": Rule(False, "files and folders of other programs, or hidden ones", "none: they are not looked into"),
    "decomposed-names": Rule(
        False,
        "names in decomposed Unicode, as macOS writes them",
        "rename them before a table is made: convmv -f utf8 -t utf8 --nfc -r --notest FOLDER",
    ),
    "other-spelling": Rule(
        False,
        "images that the table names in composed and the disk in decomposed Unicode, or the other way round",
        "none here: they are found; other programs may need convmv -f utf8 -t utf8 --nfc -r --notest FOLDER",
    ),
    "bytes-names": Rule(
        False, "names that are not UTF-8", "rename them: a caption table cannot hold them, and leaves them out"
    ),
    "repeated": Rule(False, "entries that list an image again", "none: their captions were joined"),
    "no-captions": Rule(False, "images without a caption", "none: they stand in the gallery and ask nothing"),
    "equal-pictures": Rule(False, "pictures that equal another one of the list", "keep one of each group"),
    "near-equal": Rule(
        False,
        "pictures that look like another one of the list: copies in another size or quality, frames of one track",
        "keep one of each, or none of them in two splits",
    ),
    "wide": Rule(
        False, "pictures wider than tall", "crop the people first: a model looks at each as at one standing person"
    ),
    "caption-twice": Rule(False, "captions that their image has twice", "delete the second, which counts twice"),
    "caption-of-two": Rule(
        False, "captions shared by different people", "none, or tell them apart: nobody could answer these", 30
    ),
    "small": Rule(
        False,
        "crops less than {} pixels tall or {} wide".format(*SMALLEST),
        "none, or leave them out: little can be told from them",
    ),
    "unlisted": Rule(False, "image files that no entry lists", "none: they are not used"),
}


@dataclass(frozen=True)
class Finding:
    """How often a rule was broken, with some examples."""

    rule: str
    count: int
    examples: tuple[str, ...]

    @property
    def minutes(self) -> float:
        """Time that settling all cases by eye takes, by estimate."""
        return self.count * RULES[self.rule].seconds / 60


def _found(rule: str, cases: Iterable[str]) -> list[Finding]:
    listed = list(cases)
    return [Finding(rule, len(listed), tuple(listed[:_EXAMPLES]))] if listed else []


def in_annotations(benchmark: Benchmark) -> list[Finding]:
    """Find what the annotation file alone tells."""
    by_rule: dict[str, list[str]] = defaultdict(list)
    for rejection in benchmark.rejected:
        rule = "useless-captions" if rejection.reason in LOST_CAPTIONS else rejection.reason
        by_rule[rule].append(f"{rejection.image} ({rejection.reason})")
    by_rule["absent"] = list(dict.fromkeys(by_rule["absent"]))  # a table has several rows of an image
    splits: dict[int, set[str]] = defaultdict(set)
    people: dict[str, set[int]] = defaultdict(set)
    for record in benchmark.records:
        splits[record.identity].add(record.split)
        for caption in record.captions:
            people[caption].add(record.identity)
    twice = (
        f"{record.image}: {caption}"
        for record in benchmark.records
        for caption, times in Counter(record.captions).items()
        if times > 1
    )
    return [
        *(finding for rule, cases in by_rule.items() for finding in _found(rule, cases)),
        *_found(
            "identity-in-splits",
            (f"{identity}: {', '.join(sorted(names))}" for identity, names in splits.items() if len(names) > 1),
        ),
        *_found("caption-twice", twice),
        *_found(
            "caption-of-two",
            (f"{sorted(owners)[:_EXAMPLES]}: {text}" for text, owners in people.items() if len(owners) > 1),
        ),
    ]


def in_captions(table: CaptionTable) -> list[Finding]:
    """Find what a caption table alone tells."""
    useless = [f"{count} {status}" for status, count in table.rejected.items()]
    findings = [Finding("useless-captions", sum(table.rejected.values()), tuple(useless))] if useless else []
    # Whole numbers in place of millions of pairs of strings.
    texts = table.captions.dictionary_encode()
    keys = table.image_index * len(texts.dictionary) + texts.indices.to_numpy()
    values, times = np.unique(keys, return_counts=True)
    twice = (table.images[key // len(texts.dictionary)] for key in values[times > 1].tolist())
    return findings + _found("caption-twice", twice)


def in_pictures(survey: Survey, benchmark: Benchmark | None = None) -> list[Finding]:
    """Find what the pictures tell, and, where they are annotated, whether the annotations contradict them."""
    groups: dict[str, list[str]] = defaultdict(list)
    for image, picture in survey.pictures.items():
        groups[picture.pixels].append(image)
    equal = [sorted(images) for images in groups.values() if len(images) > 1]
    records = {record.image: record for record in benchmark.records} if benchmark else {}
    people = {image: record.identity for image, record in records.items()}
    splits = {image: record.split for image, record in records.items()}
    small = (
        f"{image} ({picture.width}x{picture.height})"
        for image, picture in survey.pictures.items()
        if picture.height < SMALLEST[0] or picture.width < SMALLEST[1]
    )
    return [
        *_found("unreadable", (f"{image}: {reason}" for image, reason in survey.unreadable.items())),
        *_found("picture-of-two", _differing(equal, people)),
        *_found("picture-in-splits", _differing(equal, splits)),
        *_found("equal-pictures", (f"{image} = {first}" for first, *others in equal for image in others)),
        *_found("near-equal", _look_alike(survey, people, splits)),
        *_found("blank", (f"{image} ({p.nothing})" for image, p in survey.pictures.items() if p.nothing)),
        *_found("cut", (image for image, picture in survey.pictures.items() if picture.cut)),
        *_found("wide", (f"{i} ({p.width}x{p.height})" for i, p in survey.pictures.items() if p.width > p.height)),
        *_found("small", small),
    ]


def _look_alike(survey: Survey, people: Mapping[str, int], splits: Mapping[str, str]) -> list[str]:
    """Find pictures that nearly equal an earlier one; those of different people or splits come first, and say so."""
    # One of each group of equal pictures, which are a finding already; pictures of one colour all have the same hash.
    # Reversed, so that of equal ones the first is kept.
    shown = {picture.pixels: image for image, picture in reversed(survey.pictures.items()) if not picture.nothing}
    images = sorted(shown.values())
    cases: list[tuple[bool, str]] = []
    for early, late in near_equal([survey.pictures[image] for image in images]):
        one, other = images[early], images[late]
        owners = [f"{people[image]}, {splits[image]}" for image in (one, other) if image in people]
        differs = len(set(owners)) > 1
        # False sorts before True: what contradicts the annotations comes first.
        cases.append((not differs, f"{other} ({owners[1]}) ~ {one} ({owners[0]})" if differs else f"{other} ~ {one}"))
    return [text for _, text in sorted(cases)]


def in_listing(listing: ImageListing) -> list[Finding]:
    """Find what was left out when the folder was listed, and names that others may not find."""
    names = [path.as_posix() for path in listing.images]
    return [
        *_found("odd-entries", (f"{path}: {reason}" for path, reason in listing.odd)),
        *_counted("not-read", listing.other_formats),
        *_counted("by-products", listing.by_products),
        *_found("decomposed-names", (ascii(n) for n in names if n != unicodedata.normalize("NFC", n))),
        *_found("bytes-names", (ascii(name) for name in names if not is_unicode(name))),
    ]


def in_table_names(images: Iterable[str], root: Path) -> list[Finding]:
    """Find images of a table that are absent below ``root``, and those that the disk spells otherwise."""
    spelled = {image: name_on_disk(root, image) for image in images}
    return [
        *_found("absent", sorted(image for image, name in spelled.items() if not (root / name).is_file())),
        *_found("other-spelling", sorted(ascii(image) for image, name in spelled.items() if name != image)),
    ]


def _counted(rule: str, numbers: Counter[str]) -> list[Finding]:
    kinds = tuple(f"{count:,} {name}" for name, count in sorted(numbers.items(), key=lambda kind: (-kind[1], kind[0])))
    return [Finding(rule, numbers.total(), kinds)] if kinds else []


def unlisted(present: Iterable[str], listed: Collection[str]) -> list[Finding]:
    """Find image files that nothing lists."""
    known = set(listed)
    return _found("unlisted", (image for image in present if image not in known))


def _differing(groups: Iterable[Sequence[str]], owners: Mapping[str, object]) -> Iterable[str]:
    for group in groups:
        if len({owners[image] for image in group if image in owners}) > 1:
            yield ", ".join(f"{image} ({owners[image]})" for image in group[:_EXAMPLES])


def sizes(pictures: Collection[Picture]) -> dict[str, list[float]]:
    """Measure the least, median and greatest width, height and aspect ratio (height over width)."""
    columns: dict[str, list[float]] = {
        "width": [picture.width for picture in pictures],
        "height": [picture.height for picture in pictures],
        "aspect": [round(picture.height / picture.width, 2) for picture in pictures],
    }
    return {
        name: [min(values), sorted(values)[len(values) // 2], max(values)] for name, values in columns.items() if values
    }
