"""Settings: read from files and overrides, refused with every reason at once, written back the same."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, strategies as st

from textreid.config import Config, ModelConfig
from textreid.errors import ConfigError
from textreid.presets import tiny

SECTIONS = {field.name: type(getattr(Config(), field.name)) for field in dataclasses.fields(Config)}
SETTINGS = [(section, field.name) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]


def refusal(values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(values)
    return str(caught.value)


def test_nothing_given_is_the_defaults() -> None:
    assert Config.from_dict({}) == Config()


def test_names_of_older_files_are_read() -> None:
    former = {"head_rate": 3.0, "bias_rate": 2.0, "least_warmup_steps": 7}
    optimizer = Config.from_dict({"optimizer": former}).optimizer
    assert (optimizer.head_lr_multiplier, optimizer.bias_lr_multiplier, optimizer.min_warmup_steps) == (3.0, 2.0, 7)
    assert former.keys() & Config().to_dict()["optimizer"].keys() == set()
    assert Config().override(["optimizer.head_rate=4"]).optimizer.head_lr_multiplier == 4.0


def test_all_errors_are_reported_at_once() -> None:
    message = refusal(
        {
            "trainig": {},
            "training": {"epochs": 0, "batch_sise": 4},
            "masking": {"probability": 1.5, "method": "all"},
            "model": {"pixel_mean": [0.5, 0.5], "stem": 3},
        }
    )
    assert message.split("; ") == [
        "trainig: no such setting",
        "did you mean training?",
        "model.stem: expected one of patch, convolutional, efficientnet-lite0, efficientnet-lite1, got 3",
        "model.pixel_mean: expected a list of 3 numbers, got [0.5, 0.5]",
        "masking.method: expected one of nam, em, none, oracle, got 'all'",
        "masking.probability: expected from 0 to 1, got 1.5",
        "training.batch_sise: no such setting",
        "did you mean training.batch_size?",
        "training.epochs: expected at least 1, got 0",
    ]


@pytest.mark.parametrize(
    ("section", "name", "value", "reason"),
    [
        ("training", "epochs", 2.0, "expected a whole number"),
        ("training", "epochs", True, "expected a whole number"),
        ("training", "epochs", "3", "expected a whole number"),
        ("training", "epochs", None, "expected a whole number"),
        ("masking", "exact_mean", 1, "expected true or false"),
        ("masking", "probability", "0.1", "expected a number"),
        ("masking", "probability", True, "expected a number"),
        ("masking", "probability", float("nan"), "expected a finite number"),
        ("optimizer", "learning_rate", float("inf"), "expected a finite number"),
        ("optimizer", "learning_rate", 10**400, "expected a number"),
        ("optimizer", "learning_rate", -1e-9, "expected at least 0"),
        ("optimizer", "beta1", 1.0, "expected from 0 to"),
        ("optimizer", "epsilon", 0, "expected at least 1e-15"),
        ("training", "seed", 2**64, "expected from 0 to"),
        ("model", "weights", 7, "expected text"),
        ("model", "text_length", 78, "expected from 4 to 77"),
        ("model", "pixel_std", [0.2, "0.2", 0.2], "expected a number"),
        ("model", "pixel_std", 0.2, "expected a list of 3 numbers"),
        ("model", "stem", ["patch"], "expected one of"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(section: str, name: str, value: Any, reason: str) -> None:
    message = refusal({section: {name: value}})
    assert message.startswith(f"{section}.{name}: {reason}")
    assert message.endswith(f"got {value!r}")


def test_a_whole_number_serves_where_a_fraction_is_asked() -> None:
    value = Config.from_dict({"optimizer": {"warmup_epochs": 2}}).optimizer.warmup_epochs
    assert value == 2.0
    assert isinstance(value, float)


@pytest.mark.parametrize("values", [[], "x", 3, None, {"model": []}, {"model": None}])
def test_what_is_no_table_is_refused(values: Any) -> None:
    assert "expected a table of settings" in refusal(values)


def test_a_far_name_gets_the_list_of_names() -> None:
    assert refusal({"masking": {"qqqq": 1}}).endswith(
        "known: method, probability, layer, exact_mean, shift, weigh, scorer"
    )


WEIGHED = ("masking.weigh=true", "masking.shift=false", "masking.scorer=discriminant")


@pytest.mark.parametrize(
    ("assignments", "reason"),
    [
        (["model.image_height=100"], "model.image_height: 100 is not a multiple of model.patch_size 16"),
        (["model.vision_heads=5"], "model.vision_width: 768 is not a multiple of model.vision_heads 5"),
        (["model.text_heads=3"], "model.text_width: 512 is not a multiple of model.text_heads 3"),
        (
            ["model.patch_size=12", "model.image_width=120", "model.stem=convolutional"],
            "model.patch_size: 12 is not a power of two",
        ),
        (["model.pixel_std=[0.2, 0, 0.2]"], "model.pixel_std: (0.2, 0.0, 0.2) must be above 0"),
        (["masking.layer=13"], "masking.layer: 13, but the shallower tower has 12 layers"),
        (["masking.shift=false"], "masking.shift: false needs a scorer that says how probably a word is wrong"),
        (["masking.weigh=true"], "masking.weigh: needs masking.method=nam with masking.shift=false, or masking.method"),
        (["masking.weigh=true", "masking.method=em"], "masking.weigh: needs masking.method=nam"),
        ([*WEIGHED, "losses.sdm=0", "losses.id=1"], "masking.weigh: weighs captions in the losses sdm, itc, cmpm; all"),
        ([*WEIGHED, "losses.mlm=1"], "losses.mlm: predicts masked words, but masking.weigh masks none"),
        (["losses.mlm_words=trusted"], "losses.mlm_words: trusted needs losses.mlm above 0 and a scorer"),
        (["losses.mlm_words=trusted", "losses.mlm=1", "masking.method=em"], "losses.mlm_words: trusted needs"),
        (["losses.sdm=0"], "losses: every weight is 0"),
        (["losses.mlm=1", "masking.method=none"], "losses.mlm: predicts masked words, but masking.method is none"),
        (["losses.mlm=1", "masking.probability=0"], "losses.mlm: predicts masked words"),
        (["augmentation.erase_area_low=0.5"], "augmentation.erase_area_low is above augmentation.erase_area_high"),
        (["training.epochs=5"], "optimizer.warmup_epochs: 5.0 leaves nothing of the 5 epochs"),
        (["training.captions_per_image=2"], "training.captions_per_image: above 1 needs training.epoch_unit image"),
    ],
)
def test_contradictions(assignments: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override(assignments)
    assert str(caught.value).startswith(reason)


def test_contradictions_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override(["losses.mlm=1", "masking.method=none", "training.epochs=5", "model.vision_heads=5"])
    for name in ("model.vision_width: ", "losses.mlm: ", "optimizer.warmup_epochs: "):
        assert name in str(caught.value)


def test_an_unknown_loss_and_a_negative_weight_are_named() -> None:
    message = refusal({"losses": {"sdn": 1.0, "id": -1.0, "mlm": True}})
    assert message.split("; ") == [
        "losses.sdn: no such setting",
        "did you mean losses.sdm?",
        "losses.id: expected at least 0, got -1.0",
        "losses.mlm: expected a number, got True",
    ]


def test_a_layer_of_no_tower_is_no_matter_without_nam() -> None:
    assert Config().override(["masking.layer=13", "masking.method=em"]).masking.layer == 13


def test_overrides_take_json_or_else_text() -> None:
    config = tiny().override(
        ["training.epochs=3", "optimizer.warmup_epochs = 1e-1", "model.weights=openai/clip", "masking.exact_mean=true"]
    )
    assert (config.training.epochs, config.optimizer.warmup_epochs) == (3, 0.1)
    assert (config.model.weights, config.masking.exact_mean) == ("openai/clip", True)
    assert config.override(["model.weights=null"]).model.weights is None
    assert dataclasses.replace(config, model=tiny().model).model == tiny().model


@pytest.mark.parametrize("assignment", ["epochs=3", "training.epochs", "training.=3", "=", "", "training=3"])
def test_a_malformed_override_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.name=value"):
        Config().override([assignment])


def test_every_malformed_override_is_listed() -> None:
    with pytest.raises(ConfigError, match=r"'a'.*'b'"):
        Config().override(["a", "training.epochs=7", "b"])


def test_a_file_goes_on_top_of_a_base(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[training]\nepochs = 9\n[model]\npixel_mean = [0, 0.5, 1]\n", encoding="utf-8")
    config = Config.load(path, tiny())
    assert config.training == dataclasses.replace(tiny().training, epochs=9)
    assert config.model == dataclasses.replace(tiny().model, pixel_mean=(0.0, 0.5, 1.0))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"{", "not valid JSON"),
        ("a.toml", b"[training", "not valid TOML"),
        ("a.json", b"\xff\xfe\x00", "not valid JSON"),
        ("a.json", b'{"training": {"epochs": 0}}', "training.epochs: expected at least 1, got 0"),
        ("a.json", b"[1]", "configuration: expected a table of settings"),
    ],
)
def test_a_bad_file_is_named(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Config.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Config.load(tmp_path)


def test_the_section_of_a_model_is_read_alone() -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(tiny().model)))) == tiny().model
    with pytest.raises(ConfigError, match=r"model\.patchsize: no such setting; did you mean model\.patch_size\?"):
        ModelConfig.from_dict({"patchsize": 16})


def values_of(hint: Any, limits: Any) -> st.SearchStrategy[Any]:
    """Allowed values of one setting, contradictions aside."""
    low, high = limits.get("low", 0), limits.get("high", float("inf"))
    if get_origin(hint) is tuple:
        return st.tuples(*(st.floats(0.01, 1) for _ in get_args(hint)))
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(int(low), int(min(high, 10**9)))
    if hint is float:
        return st.floats(low, min(high, 1e12))
    if hint is str:
        return st.sampled_from(("patches", "words+votes", "centred", ""))
    if hint == str | None:
        return st.none() | st.text()
    if hint == int | None:
        return st.none() | st.integers(int(low), 10**9)
    return st.sampled_from(get_args(hint))


def one_setting() -> st.SearchStrategy[tuple[str, str, Any]]:
    def value(setting: tuple[str, str]) -> st.SearchStrategy[tuple[str, str, Any]]:
        section, name = setting
        kind = SECTIONS[section]
        field = next(f for f in dataclasses.fields(kind) if f.name == name)
        return values_of(get_type_hints(kind)[name], field.metadata).map(lambda v: (section, name, v))

    return st.sampled_from(SETTINGS).flatmap(value)


@given(st.lists(one_setting(), max_size=8))
def test_what_is_accepted_survives_writing_and_reading(settings: list[tuple[str, str, Any]]) -> None:
    values: dict[str, dict[str, Any]] = {}
    for section, name, value in settings:
        values.setdefault(section, {})[name] = value
    try:
        config = Config.from_dict(values)
    except ConfigError as error:
        # Only a contradiction may refuse values that are each allowed.
        assert "expected" not in str(error)  # noqa: PT017
        return
    written = json.loads(json.dumps(config.to_dict()))
    assert Config.from_dict(written) == config
    assert Config.from_dict(written, base=tiny()) == config
    for section, table in values.items():
        assert {name: getattr(getattr(config, section), name) for name in table} == table


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists), one_setting())
def test_any_value_is_accepted_or_refused_with_its_name(value: Any, setting: tuple[str, str, Any]) -> None:
    section, name, _ = setting
    try:
        Config.from_dict({section: {name: value}})
    except ConfigError as error:
        assert section in str(error)  # noqa: PT017
