"""The recipe of the expert for attributes, on people of blocks: cells say what they show, and a run goes on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import attribute_expert as recipe
from bodies.rendering import render_parts, render_shot
from textreid.models.attribute_expert import AttributeExpert
from textreid.models.attribute_network import PARTS, load_network
from textreid.seeding import generator
from textreid.synthetic.domains import DOMAINS
from textreid.synthetic.sampling import sample_person


def test_cells_tell_what_they_show(bank_file: Path) -> None:
    place = DOMAINS["plaza"]
    seen = dict.fromkeys(PARTS, 0)
    for number in range(12):
        person = sample_person(place, generator("person", 3, "plaza", number))
        shot, parts = render_parts(bank_file, person, number, place, 0, number)
        assert parts.shape == (48, 24)
        assert render_shot(bank_file, person, number, place, 0, number).image.tobytes() == shot.image.tobytes()
        rows = {part: np.nonzero(parts == place_)[0] for place_, part in enumerate(PARTS)}
        for part, found in rows.items():
            seen[part] += len(found)
        if len(rows["shoes"]) and len(rows["hair"]):
            assert rows["hair"].mean() < rows["upper"].mean() < rows["shoes"].mean()
        if person.bag == "none":
            assert not len(rows["bag"])
    assert all(seen[part] for part in ("background", "skin", "hair", "upper", "lower", "shoes", "bag"))


@pytest.mark.slow
def test_an_interrupted_run_goes_on(bank_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PEOPLE", {"plaza": 6, "night": 4})
    monkeypatch.setattr(recipe, "make_bank", lambda path: shutil.copyfile(bank_file, path))
    monkeypatch.setattr(recipe, "BLOCKS", {0: "bodies", 1: "drawings"})
    monkeypatch.setattr(recipe, "STEPS", 6)
    monkeypatch.setattr(recipe, "SAVED_EVERY", 3)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    recipe.main(["--work", str(whole), "--out", str(whole / "expert"), "--workers", "1"])

    for block in recipe.BLOCKS:  # what was rendered is not rendered again
        shutil.copytree(whole / f"block-{block}", stopped / f"block-{block}")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recipe, "write", interrupt)
        patched.setattr(recipe, "_batch", _stop_at(4, recipe._batch))
        with pytest.raises(KeyboardInterrupt):
            recipe.main(["--work", str(stopped), "--out", str(stopped / "expert"), "--workers", "1"])
    assert torch.load(stopped / "training.pt")["steps"] == 3
    recipe.main(["--work", str(stopped), "--out", str(stopped / "expert"), "--workers", "1"])

    first, second = (load_network(each / "expert" / "network.safetensors").state_dict() for each in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.setattr("textreid.models.attribute_expert.FOLDER", stopped / "expert")
    expert = AttributeExpert.load.__wrapped__(AttributeExpert)
    assert expert.dimension == AttributeExpert.load().dimension


def _stop_at(step: int, batch):  # type: ignore[no-untyped-def]
    def asked(number: int, known: int) -> object:
        if number == step:
            raise KeyboardInterrupt
        return batch(number, known)

    return asked
