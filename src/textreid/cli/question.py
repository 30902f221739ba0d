"""What ``textreid search`` is asked beyond one sentence: options, how they are read, and what is made of the answer."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from textreid.errors import ConfigError

if TYPE_CHECKING:
    from textreid.gallery.query.evidence import Case, Exhibit
    from textreid.gallery.query.nobody import Verdict
    from textreid.gallery.query.pairs import Pair
    from textreid.gallery.query.question import Question

ALSO = typer.Option(None, "--also", metavar="TEXT", help="What another witness said; may be repeated.")
LIKE = typer.Option(
    None, "--like", metavar="FILE", help="A picture of the person, or number of a crop; may be repeated."
)
WITHOUT = typer.Option(None, "--without", metavar="TEXT", help="What was not seen, as 'a red hat'; may be repeated.")
RIGHT = typer.Option(None, "--right", metavar="RESULT", help="A result that is right, by path or number of a crop.")
WRONG = typer.Option(None, "--wrong", metavar="RESULT", help="A result that does not; may be repeated, as --right.")
GROUP = typer.Option(
    None, "--group/--no-group", help="One result for crops that hardly differ, and of a gallery one a walk."
)
NOBODY = typer.Option(False, "--nobody", help="Say how likely it is that nobody there is the person.")
PRIOR = typer.Option(0.5, "--prior", metavar="P", help="Of --nobody: how likely that somebody is, before the search.")
LABELLED = typer.Option(
    None, "--labelled", metavar="FILE", help="For --nobody: sentences and images that show whom they describe (CSV)."
)
REWRITE = typer.Option(
    None, "--rewrite", metavar="NAME=URL#MODEL", help="A language model that says the query in other words as well."
)
EVIDENCE = typer.Option(None, "--evidence", metavar="FILE.zip", help="Write what was found with sources and hashes.")


@dataclass(frozen=True)
class QuestionWords:
    """A question as it stands on a command line.

    Attributes:
        query: the words of the first witness; may be empty where there is a picture.
        also, like, without: see the options.
        right, wrong: results that were judged.
        group: whether they are put together; None where that was not said.
        prior: of a verdict; None where none was asked for.
        labelled: file of pairs for it.
        rewrite: NAME=URL#MODEL.
        evidence: file to write.
    """

    query: str
    also: Sequence[str] = ()
    like: Sequence[Path] = ()
    without: Sequence[str] = ()
    right: Sequence[str] = ()
    wrong: Sequence[str] = ()
    group: bool | None = None
    prior: float | None = None
    labelled: Path | None = None
    rewrite: str | None = None
    evidence: Path | None = None

    def read(self) -> "Question":
        """Make the question, with its rewrites, for which a language model is asked.

        Raises:
            ConfigError: it asks for nobody, or a file or the address of the language model cannot be meant so.
            CaptionError: the language model gave no rewrite.
        """
        from textreid.gallery.query.question import Question

        if self.evidence and self.evidence.suffix.lower() != ".zip":
            raise ConfigError(f"--evidence {self.evidence}: evidence is a .zip file")
        sentences = tuple(sentence for sentence in (self.query, *self.also) if sentence)
        like = (int(path.name) if str(path).isdecimal() and not path.exists() else path for path in self.like)
        question = Question(sentences, tuple(like), tuple(self.without))
        question.check()
        if self.prior is not None and self.like:
            raise ConfigError("--nobody: is known of sentences alone, without --like")
        if self.prior is not None and not 0 < self.prior < 1:
            raise ConfigError(f"--prior: expected a probability above 0 and below 1, got {self.prior:g}")
        return replace(question, rewrites=self._rewrites(sentences)) if self.rewrite else question

    def pairs(self) -> "list[Pair]":
        """Read the labelled pairs, if there are any.

        Raises:
            ConfigError: there are, and no verdict is asked for.
            AnnotationError: they cannot be read; names the line.
        """
        from textreid.gallery.query.pairs import read_pairs

        if self.labelled and self.prior is None:
            raise ConfigError("--labelled: is for --nobody")
        return read_pairs(self.labelled) if self.labelled else []

    def _rewrites(self, sentences: Sequence[str]) -> tuple[str, ...]:
        from textreid.captioning.rewriting import read_rewriter, rewrite_all

        rewriter = read_rewriter(self.rewrite or "")
        _note(f"the query, without pictures, goes to {rewriter.place}")
        rewrites = rewrite_all(rewriter, sentences)
        for rewrite in rewrites:
            _note(f"in other words: {_printable(rewrite)}")
        return tuple(rewrites)

    def write_evidence(self, case: Callable[[], "Case"], exhibits: Callable[[], "list[Exhibit]"]) -> None:
        """Write the file of evidence, if one was asked for, and say its hash."""
        if self.evidence is None:
            return
        from textreid.gallery.query.evidence import write_evidence

        digest = write_evidence(self.evidence, case(), exhibits())
        _note(f"evidence: {self.evidence}, SHA-256 {digest}")


def tell_verdict(verdict: "Verdict | None") -> None:
    """Say on standard error whether anybody fits, where that was asked."""
    if verdict:
        _note(str(verdict))


def verdict_json(verdict: "Verdict | None") -> dict[str, Any] | None:
    """Return a verdict as JSON has it."""
    if verdict is None:
        return None
    return {
        "answer": verdict.answer,
        "probability": round(verdict.probability, 4),
        "chance": round(verdict.chance, 4),
    }


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
