"""A gallery that is embedded again while it is served: the service follows it, and nobody's search fails."""

import threading
from pathlib import Path

import pytest
from tests.service.conftest import MakeGallery, serving

from textreid import Client
from textreid.gallery.encoder import GalleryEncoder
from textreid.gallery.store.reindexing import reindex
from textreid.service import ServiceError


@pytest.mark.slow
def test_a_service_follows_its_gallery_to_another_model(make_gallery: MakeGallery, other_model_folder: Path) -> None:
    served = make_gallery("followed", 12, seed=29)
    encoder = GalleryEncoder(other_model_folder, "fp32")
    failed: list[str] = []
    stop = threading.Event()

    def ask(url: str) -> None:
        with Client(url) as client:
            while not stop.is_set():
                try:
                    assert len(client.search("a man", verdict=True).hits) == 12
                    assert len(client.similar(next(iter(served.crops))).hits) == 11
                except (ServiceError, AssertionError) as error:
                    failed.append(str(error))

    with serving(served) as (url, _), Client(url) as client:
        before = client.search("a man", top=3)
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for opened in served.opened():
            reindex(opened.store(served.name), encoder, str(other_model_folder))
            vector, _ = encoder.encode_query("a man")
            expected = [hit.crop.id for hit in opened.store(served.name).search(vector, top=3).hits]
        after = client.search("a man", top=3)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert [hit.crop.id for hit in after.hits] == expected
        assert client.search("a man", top=3, after=after.next).hits
        # The page after one that the former model ranked would repeat some, and leave out others.
        with pytest.raises(ServiceError, match="embedded by another model since that page"):
            client.search("a man", top=3, after=before.next)
