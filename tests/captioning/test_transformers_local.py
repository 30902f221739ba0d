"""A local model of 60 thousand random weights, made here: it babbles, but through all of transformers' real paths."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from textreid.captioning.backends.transformers_local import LocalMLLM, LocalOptions
from textreid.captioning.instructions import dynamic_instructions, static_instruction
from textreid.captioning.requests import Caption, CaptionFailure, Request
from textreid.errors import ConfigError, ModelError

WORDS = "a person in red blue green black shirt trousers shoes wearing with hair . , the woman man"
TEMPLATE = (
    "{% for message in messages %}USER : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %} ASSISTANT :"
)


def make_model(folder: Path, template: str | None = TEMPLATE) -> None:
    """Write a LLaVA of two tiny towers, its tokenizer and its processor."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    library: Any = transformers  # partly untyped
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    vocabulary = {word: number for number, word in enumerate([*special, "USER", "ASSISTANT", ":", *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        unk_token=special[3],
        additional_special_tokens=[special[4]],
    )
    vision = library.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    text = library.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config = library.LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
    processor = library.LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=fast,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    torch.manual_seed(0)
    library.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    make_model(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for number, path in enumerate(paths):
        Image.new("RGB", (20 + 10 * number, 60), path.stem).save(path)
    return paths


def ask(
    captioner: LocalMLLM, images: Sequence[Path], requests: Sequence[Request]
) -> list[list[Caption | CaptionFailure]]:
    async def run() -> list[list[Caption | CaptionFailure]]:
        return await asyncio.gather(*(captioner.caption(image, requests) for image in images))

    return asyncio.run(run())


REQUESTS = [Request(static_instruction(), 1), Request(dynamic_instructions()[5], 2)]


def test_the_answer_does_not_depend_on_the_batch(model: Path, pictures: list[Path]) -> None:
    together = LocalMLLM("llava", str(model), LocalOptions(temperature=0, max_tokens=12, device="cpu"))
    alone = LocalMLLM("llava", str(model), LocalOptions(temperature=0, max_tokens=12, device="cpu", batch_size=1))
    answers = ask(together, pictures, REQUESTS)
    assert answers == ask(alone, pictures, REQUESTS)
    found = [answer for image in answers for answer in image]
    assert len(found) == 6
    for answer in found:
        assert isinstance(answer, Caption)
        assert set(answer.text.split()) <= {*WORDS.split(), ":", "USER", "ASSISTANT"}
        assert "USER :" not in answer.text[:6]  # only what it wrote, not what it read
        assert 0 < answer.usage.completion_tokens <= 12
        assert answer.usage.prompt_tokens > 20


def test_the_seed_decides_what_is_sampled(model: Path, pictures: list[Path]) -> None:
    captioner = LocalMLLM("llava", str(model), LocalOptions(temperature=1.0, max_tokens=12, device="cpu"))
    texts = [repr(ask(captioner, pictures[:1], [Request(static_instruction(), seed)])) for seed in (1, 2, 1, 2, 3)]
    assert texts[0] == texts[2]
    assert texts[1] == texts[3]
    assert len(set(texts)) == 3


def test_junk_is_a_failure_among_captions(model: Path, pictures: list[Path], tmp_path: Path) -> None:
    junk = tmp_path / "junk.jpg"
    junk.write_bytes(b"junk")
    captioner = LocalMLLM("llava", str(model), LocalOptions(max_tokens=4, device="cpu"))
    first, second, third = ask(captioner, [pictures[0], junk, pictures[1]], REQUESTS)
    assert {type(answer) for answer in (*first, *third)} == {Caption}
    assert {answer.kind for answer in second if isinstance(answer, CaptionFailure)} == {"unreadable-image"}


def test_a_request_that_breaks_the_model_breaks_no_other(model: Path, pictures: list[Path]) -> None:
    import dataclasses

    endless = dataclasses.replace(static_instruction(), text="red " * 600 + "<image> " * 3)
    captioner = LocalMLLM("llava", str(model), LocalOptions(temperature=0, max_tokens=4, device="cpu"))
    answers = ask(captioner, pictures[:1], [REQUESTS[0], Request(endless, 1), REQUESTS[1]])[0]
    assert [type(answer) for answer in answers] == [Caption, CaptionFailure, Caption]
    failure = answers[1]
    assert isinstance(failure, CaptionFailure)
    assert (failure.kind, failure.permanent) == ("model-error", True)


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalMLLM("llava", str(tmp_path))
    make_model(tmp_path / "mute", template=None)
    with pytest.raises(ModelError, match="no chat template"):
        LocalMLLM("llava", str(tmp_path / "mute"))


def test_without_transformers_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs transformers: pip install 'textreid\[mllm\]'"):
        LocalMLLM("llava", str(model))
