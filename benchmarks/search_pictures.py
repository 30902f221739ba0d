"""Draw searches of the bundled model as pictures: two for the documentation, or a sheet of each of twenty to look at.

    python benchmarks/search_pictures.py docs/images            # search.png and queries.jpg: 1,000 drawn pictures
    python benchmarks/search_pictures.py sheets --every         # all twenty, five pictures each
    python benchmarks/search_pictures.py sheets --every --images FOLDER

They show drawn people, of cameras that the model never saw, unless a folder is named.
"""

import argparse
import os
import tempfile
from pathlib import Path

from PIL import Image

from textreid.gallery.embedding_cache import EmbeddingCache
from textreid.gallery.search import search
from textreid.gallery.sheet import contact_sheet, save_contact_sheet
from textreid.models import load_model
from textreid.models.folder import DEFAULT
from textreid.synthetic import write_corpus

FIRST = "a woman in a red jacket and blue jeans"  # the picture at the top of the README
FOUR = ("a woman with a handbag", "a man with a backpack", "a man in a suit", "a person with a scarf")
TWENTY = (
    FIRST, *FOUR, "a woman with a backpack", "a woman in a skirt and boots", "a person with glasses", "a man in shorts",
    "a person with a suitcase", "a woman with long blonde hair", "a woman in a headscarf", "a woman in a white dress",
    "a man in a hoodie", "a person in a checked shirt", "a woman in a yellow dress", "a man with a black hat",
    "a bald man in a dark coat", "a woman in a striped shirt", "a man in white shoes and black trousers",
)  # fmt: skip
SEED, PEOPLE, IMAGES = 20240601, 250, 4
SHOWN = (800, 470)  # of each of the four, in pixels


def main() -> None:
    """Search and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--images", type=Path, help="else drawn people of a station")
    parser.add_argument("--every", action="store_true", help="a sheet of each of the twenty searches")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, EmbeddingCache() as cache:
        images = options.images
        if images is None:
            folder = Path(scratch) / "station"
            write_corpus(folder, "station", PEOPLE, IMAGES, SEED, workers=os.cpu_count() or 1)
            images = folder / "imgs"
        model = load_model(None, precision="auto")

        def draw(query: str, top: int) -> Image.Image:
            found = search(query, images, model=model, top=top, cache=cache)
            note = f"The best {top} of {found.images:,} images  ·  model {DEFAULT}  ·  cosine similarity"
            return contact_sheet(query, note, found.hits)

        if options.every:
            for number, query in enumerate(TWENTY, 1):
                save_contact_sheet(draw(query, 5), options.out / f"{number:02} {query}.png")
            return
        save_contact_sheet(draw(FIRST, 10), options.out / "search.png")
        four = Image.new("RGB", (2 * SHOWN[0], 2 * SHOWN[1]), "#f7f7f5")
        for number, query in enumerate(FOUR):
            sheet = draw(query, 5)
            sheet.thumbnail(SHOWN, Image.Resampling.LANCZOS)
            four.paste(sheet, (number % 2 * SHOWN[0], number // 2 * SHOWN[1]))
        save_contact_sheet(four, options.out / "queries.jpg")


if __name__ == "__main__":
    main()
