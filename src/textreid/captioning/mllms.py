"""``--mllm``: which captioner stands behind a name."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.request import getproxies

from textreid.captioning.backends.addresses import (
    OPENAI_VARIABLE,
    PROXY_VARIABLES,
    checked_url,
    destination,
    key_variable,
)
from textreid.captioning.engine import Engine, LocalEngine
from textreid.captioning.requests import Captioner
from textreid.errors import ConfigError, nearest_name

Backend = Literal["openai-compatible", "transformers", "describe", "simulated", "vllm"]
EngineName = Literal["local", "ray"]
_FORMS = (
    "NAME=URL#MODEL (any OpenAI-compatible server), NAME=transformers:MODEL (loaded here), "
    "NAME=vllm:MODEL (in a Ray cluster with GPUs), "
    "NAME=describe (no model) or NAME=simulated[:ERROR_RATE[:KIND]] (synthetic corpora), such as "
    "--mllm qwen=http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct or --mllm draft=describe"
)
# Without a slash, which parts the MLLM from the instruction in the name of a slot.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class CaptionerSpec:
    """A captioner before it is opened: ``urls`` are the endpoints that serve ``model``."""

    name: str
    backend: Backend
    model: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaptionerOptions:
    """Ways in which MLLMs are asked where that differs from the backend's own defaults: None leaves those."""

    max_tokens: int | None = None
    temperature: float | None = None
    longest_side: int | None = None
    timeout: float | None = None
    batch_size: int | None = None
    fields: Mapping[str, Any] | None = None

    def of(self, backend: Backend) -> dict[str, Any]:
        """Return the fields that are given and that ``backend`` has."""
        return {name: value for name, value in vars(self).items() if value is not None and backend in _TAKEN_BY[name]}

    def check(self, mllms: Sequence[CaptionerSpec]) -> None:
        """Refuse what none of ``mllms`` can be told.

        Raises:
            ConfigError: names the option.
        """
        backends = {mllm.backend for mllm in mllms}
        for name, value in vars(self).items():
            if value is not None and backends.isdisjoint(_TAKEN_BY[name]):
                option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
                raise ConfigError(f"{option}: none of these MLLMs takes it; it is for {', '.join(_TAKEN_BY[name])}")


_DEFAULTS = CaptionerOptions()
_MODELS: tuple[Backend, ...] = ("openai-compatible", "transformers", "vllm")
_TAKEN_BY: Mapping[str, tuple[Backend, ...]] = {
    "max_tokens": _MODELS,
    "temperature": _MODELS,
    "longest_side": _MODELS,
    "timeout": ("openai-compatible",),
    "batch_size": ("transformers",),
    "fields": ("openai-compatible",),
}
_OPTIONS = {"longest_side": "--image-size", "fields": "--field"}


def read_mllms(specifications: Sequence[str]) -> tuple[CaptionerSpec, ...]:
    """Read what ``--mllm`` was given; a name that comes again adds an endpoint of the same model.

    Raises:
        ConfigError: nothing was given, something in an unknown form, or one name for two models.
    """
    found: dict[str, CaptionerSpec] = {}
    for specification in specifications:
        one = _read(specification)
        known = found.get(one.name)
        if known is None:
            for name in found:
                if key_variable(name) == key_variable(one.name):
                    raise ConfigError(
                        f"--mllm {name}, {one.name}: too much alike: {key_variable(name)} would be the key of both"
                    )
            found[one.name] = one
        elif (known.backend, known.model) != (one.backend, one.model):
            raise ConfigError(f"--mllm {one.name}: stands for {known.model!r} and for {one.model!r}; name them apart")
        # Only servers can be several for one name: whichever answers, the captions are those of one model.
        elif one.backend != "openai-compatible" or one.urls[0] in known.urls:
            raise ConfigError(f"--mllm {one.name}: given twice")
        else:
            found[one.name] = CaptionerSpec(one.name, one.backend, one.model, (*known.urls, *one.urls))
    if not found:
        raise ConfigError(f"--mllm: needed at least once, as {_FORMS}")
    return tuple(found.values())


def _read(specification: str) -> CaptionerSpec:
    name, equals, target = specification.partition("=")
    if not equals:
        # A backend that needs no name of its own gives its name; a URL does not, for it may hold anything.
        name, target = specification.partition(":")[0].lower(), specification
    if not _NAME.fullmatch(name) or (target.startswith(("http://", "https://")) and not equals):
        # What stands there may hold a secret, so it is not repeated.
        raise ConfigError(f"--mllm: no name of letters, digits, '.', '_' and '-' before '='; expected {_FORMS}")
    backend, colon, model = target.partition(":")
    backend = backend.lower()
    match backend:
        case "describe" if not colon:
            return CaptionerSpec(name, backend, backend)
        case "simulated":
            return CaptionerSpec(name, backend, target.lower())
        case "transformers" | "vllm" if model:
            return CaptionerSpec(name, backend, model)
    # The model stands behind "#", which no URL of an API has, and may itself hold slashes and colons.
    url, _, model = target.partition("#")
    if not url.startswith(("http://", "https://")) or not model:
        if equals and re.match(r"[\w.-]+:\d+(?:/|$)", url):  # a host and its port
            url = f"http://{url}"
        # Repeated only when it is known to hold no secret: `checked_url` refuses those that do.
        if url.startswith(("http://", "https://")):
            right = f"--mllm {name}={checked_url(url, f'--mllm {name}')}#{model or 'MODEL'}"
            raise ConfigError(f"--mllm {name}: expected NAME=URL#MODEL, as in {right}")
        # What has "/" or "@" in it is an address rather than a slip in a backend's name.
        hint = "" if "/" in backend or "@" in backend else nearest_name(backend, ("describe", "simulated"))
        hint = f"{hint} " if hint.startswith("did you mean") else ""
        raise ConfigError(f"--mllm {name if equals else ''}: {hint}expected {_FORMS}".replace("--mllm :", "--mllm:"))
    return CaptionerSpec(name, "openai-compatible", model, (checked_url(url, f"--mllm {name}"),))


def destinations(mllms: Sequence[CaptionerSpec]) -> list[str]:
    """Say of each of ``mllms`` where pictures go, proxies included, a line for each place.

    Raises:
        ConfigError: a proxy of the environment cannot be used.
    """
    lines = []
    for one in mllms:
        lines += [f"{one.name}: pictures go to {destination(url)}" for url in one.urls]
        if not one.urls:
            place = "in the Ray cluster" if one.backend == "vllm" else "on this machine"
            lines.append(f"{one.name}: pictures stay {place}")
    return lines


def open_engine(
    mllms: Sequence[CaptionerSpec],
    images: Path,
    options: CaptionerOptions = _DEFAULTS,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    tensor_parallel: int = 1,
) -> Engine:
    """Open what asks ``mllms`` about the files under ``images``: this process, or the workers of a Ray cluster.

    Raises:
        ConfigError: as `open_captioners`, as `RayEngine`, or options of Ray without it.
    """
    if engine == "local":
        if address or workers or tensor_parallel > 1:
            raise ConfigError("--ray-address, --workers and --tensor-parallel: need --engine ray")
        return LocalEngine(open_captioners(mllms, images, options))
    from textreid.captioning.cluster.engine import RayEngine
    from textreid.captioning.cluster.vllm_batch import BatchMLLM, Sampling, VLLMProcessor

    # Relative to this process; workers have another working directory.
    opener = partial(open_captioners, [one for one in mllms if one.backend != "vllm"], images.resolve(), options)
    processors = {one.name: VLLMProcessor(one.model, tensor_parallel) for one in mllms if one.backend == "vllm"}
    sampling = Sampling(**options.of("vllm"))
    batch_mllms = [BatchMLLM(name, processor, sampling) for name, processor in processors.items()]
    found = RayEngine(
        opener, address=address, workers=workers, keys=_environment_of(mllms), batch_mllms=batch_mllms,
        on_gpu=any(one.backend == "transformers" for one in mllms),
    )  # fmt: skip
    # Only now: it is the cluster that is asked for its GPUs.
    for processor in processors.values():
        processor.check()
    return found


def _environment_of(mllms: Sequence[CaptionerSpec]) -> dict[str, str]:
    """Return the environment variables that decide on keys and proxies of ``mllms``, for workers to take over.

    All four of the proxies are among them, for those of another machine would send pictures where nobody was told.
    """
    if not any(one.urls for one in mllms):
        return {}
    names = {name for one in mllms if one.urls for name in (key_variable(one.name), OPENAI_VARIABLE)}
    proxies = getproxies()
    # In lower case, and empty where there is no proxy: `getproxies` lets that win over what a worker's machine has.
    return {name: os.environ[name] for name in sorted(names & os.environ.keys())} | {
        name: proxies.get(name.removesuffix("_proxy"), "") for name in PROXY_VARIABLES
    }


def open_captioners(
    mllms: Sequence[CaptionerSpec], images: Path, options: CaptionerOptions = _DEFAULTS
) -> list[Captioner]:
    """Open the captioner of each of ``mllms`` for the files under ``images``; keys come from the environment.

    Raises:
        ConfigError: one cannot be made from what was given.
        ArtifactError: a simulated one needs a synthetic corpus.
        ModelError: a local model cannot be loaded.
    """
    return [_open(mllm, images, options) for mllm in mllms]


def _open(mllm: CaptionerSpec, images: Path, options: CaptionerOptions) -> Captioner:
    if mllm.backend == "vllm":
        raise ConfigError(f"--mllm {mllm.name}: vllm needs --engine ray; or run `vllm serve` and give its URL")
    given = options.of(mllm.backend)
    # Imported one by one: torch and transformers take seconds, and only local models need them.
    if mllm.backend == "simulated":
        from textreid.captioning.backends.simulated import SimulatedMLLM, errors_of
        from textreid.synthetic import read_people

        rate, kind = errors_of(mllm.model)
        return SimulatedMLLM(mllm.name, read_people(images), rate, root=images, error_kind=kind)
    if mllm.backend == "openai-compatible":
        from textreid.captioning.backends.openai_compatible import OpenAICompatible, ServingOptions

        return OpenAICompatible(mllm.name, mllm.model, mllm.urls, ServingOptions(**given))
    if mllm.backend == "describe":
        from textreid.captioning.backends.describe import PixelDescriber

        return PixelDescriber(mllm.name)
    from textreid.captioning.backends.transformers_local import LocalMLLM, LocalOptions

    return LocalMLLM(mllm.name, mllm.model, LocalOptions(**given))
