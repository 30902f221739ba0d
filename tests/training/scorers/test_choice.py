"""What `masking.scorer` may name, and what becomes of it in a run."""

import pytest
import torch
from tests.training.scorers.conftest import Scene, config

from textreid.config import Config
from textreid.errors import ConfigError, TextReidError
from textreid.presets import PRESETS
from textreid.training.batch import MicroBatch
from textreid.training.network import Outputs, TrainedNetwork
from textreid.training.scorers.choice import choose_scorer
from textreid.training.scorers.leave_one_out import LeaveOneOut
from textreid.training.scorers.patches import PatchScorer
from textreid.training.scorers.scorer import check_noise

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("scorer", "base", "refinements"),
    [
        ("patches", "PatchScorer", None),
        ("patches+centred+content", "PatchScorer", ["Centred", "ContentOnly"]),
        ("attention+content", "AttentionScorer", ["ContentOnly"]),
        ("tokens", "LeaveOneOut", ["Posterior"]),
        ("words+content+centred+average", "LeaveOneOut", ["Centred", "Posterior", "ContentOnly"]),
        ("gradient+votes", "Gradient", ["Votes", "Posterior"]),
        ("centred+discriminant+votes", "Silent", ["Centred", "Votes", "Discriminant", "Posterior"]),
    ],
)
def test_what_a_name_makes(scene: Scene, scorer: str, base: str, refinements: list[str] | None) -> None:
    settings = config(f"masking.scorer={scorer}")
    made, refining = choose_scorer(settings, scene.tokenizer, CPU)
    assert type(made).__name__ == base
    assert (refining and [type(step).__name__ for step in refining.steps]) == refinements
    assert settings.masking.memory == (0.5 if "average" in scorer else 0)
    if isinstance(made, LeaveOneOut):
        assert made.temperature == settings.losses.temperature
        assert (made.whole_words, made.content_only) == ("words" in scorer, "content" in scorer)
    (micro,) = scene.batch.micro_batches()
    images = scene.outputs.image_features
    noise = made.noise(scene.network, micro, scene.outputs, images)  # type: ignore[union-attr]
    refined = refining(noise, scene.batch, images) if refining else noise
    assert refined.shape == scene.batch.ids.shape
    assert not refined[~scene.batch.is_word].any()
    if not isinstance(made, PatchScorer):
        assert ((refined >= 0) & (refined <= 1)).all()


def test_other_methods_have_none(scene: Scene) -> None:
    assert choose_scorer(config("masking.method=em", "masking.scorer=words"), scene.tokenizer, CPU) == (None, None)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("wrods+content", "masking.scorer: no such part 'wrods'; did you mean words?"),
        ("words+", "no such part ''"),
        ("content", "content names none of patches, attention"),
        ("words+gradient", "names words and gradient of"),
        ("patches+votes", "names patches and votes of"),
    ],
)
def test_names_that_make_nothing(scorer: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(f"masking.scorer={scorer}")
    assert message in str(caught.value)


def test_votes_need_several_captions() -> None:
    with pytest.raises(ConfigError, match=r"votes are of an image's captions; set training\.epoch_unit=image"):
        config("masking.scorer=votes", "training.captions_per_image=1")
    assert config("masking.scorer=votes", "training.captions_per_image=1", "masking.method=em")


def test_settings_of_before_have_the_papers_scorer() -> None:
    for preset in PRESETS.values():
        values = preset().to_dict()
        assert values["masking"].pop("scorer") == "patches"
        assert Config.from_dict(values) == preset()


class Wrong:
    """Scorer with a fault: noise of the wrong shape, or one that is no number."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def noise(self, network: TrainedNetwork, batch: MicroBatch, outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
        noise = torch.zeros(batch.ids.shape)
        if self.fault == "nan":
            noise[0, 1] = float("nan")
        return noise if self.fault == "nan" else noise[:, 1:]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "gave a noise that is not a finite number"),
        ("shape", "gave noise of shape"),
    ],
)
def test_a_scorer_with_a_fault_is_named(scene: Scene, fault: str, message: str) -> None:
    (micro,) = scene.batch.micro_batches()
    wrong = Wrong(fault)
    with pytest.raises(TextReidError, match=f"the scorer Wrong {message}"):
        check_noise(wrong, wrong.noise(scene.network, micro, scene.outputs, micro.pixels), micro.is_word)
