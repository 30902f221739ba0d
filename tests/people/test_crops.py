import io

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageFilter
from tests.people.conftest import Picture

from textreid.people.crops import PersonCrop, TrackCrops, as_rectangle, cut_out, goodness, grown, of_use


def crop(seconds: float) -> PersonCrop:
    return PersonCrop(np.zeros((4, 2, 3), np.uint8), (0, 0, 2, 4), 0.9, frame=round(10 * seconds), seconds=seconds)


def test_what_is_cut_out_is_a_copy_within_the_picture() -> None:
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    part = cut_out(picture, np.array([1.2, 0.9, 3.6, 9], np.float32))
    np.testing.assert_array_equal(part, picture[0:5, 1:4])
    part[:] = 0
    assert picture[1, 1].any()
    assert cut_out(picture, np.array([8, 8, 9, 9], np.float32)).shape == (1, 1, 3)
    assert as_rectangle(np.array([1.24, 2, 4.26, 9], np.float32)) == (1.2, 2.0, 3.1, 7.0)


def test_who_is_far_away_is_cut_out_with_surroundings() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    far, near = np.array([100, 100, 114, 138], np.float32), np.array([20, 20, 60, 120], np.float32)
    crop = cut_out(picture, grown(far))
    assert 48 <= crop.shape[0] <= 51
    assert 16 <= crop.shape[1] <= 19
    np.testing.assert_array_equal(grown(near), near)
    assert of_use(np.stack([far, near, far - np.array([0, 0, 0, 4], np.float32)])).tolist() == [True, True, False]


def test_a_crop_as_a_file_shows_the_same() -> None:
    pixels = np.full((30, 20, 3), (200, 30, 40), np.uint8)
    made = PersonCrop(pixels, (0, 0, 20, 30), 0.5)
    again = np.asarray(Image.open(io.BytesIO(made.jpeg)))
    np.testing.assert_allclose(again, pixels, atol=4)
    assert made.jpeg is made.jpeg


def test_sharp_large_whole_and_unhidden_crops_are_better(people: list[Picture]) -> None:
    person = people[0]
    blurred = np.asarray(Image.fromarray(person).filter(ImageFilter.GaussianBlur(3)))
    picture = np.full((400, 600, 3), 120, np.uint8)
    places = [(100, 100), (200, 100), (300, 100), (0, 100)]
    for (left, top), shown in zip(places, (person, blurred, person, person), strict=True):
        picture[top : top + 150, left : left + 60] = shown
    boxes = np.array([(left, top, left + 60, top + 150) for left, top in places], np.float32)
    in_front = np.array([[320, 130, 360, 270]], np.float32)
    scores = np.full(5, 0.9, np.float32)
    good, blurry, hidden, at_the_edge, _ = goodness(picture, np.concatenate([boxes, in_front]), scores)
    assert 0 < blurry < good <= 1
    assert 0 < at_the_edge < good / 2
    assert 0 < hidden < good
    small = np.asarray(Image.fromarray(picture).resize((150, 100)))
    assert goodness(small, boxes / np.float32(4), scores[:4])[0] < good
    assert goodness(picture, boxes[:0], scores[:0]) == []


def test_a_track_gives_its_best_crops_spread_in_time() -> None:
    kept = TrackCrops()
    for frame in range(100):
        kept.add(crop(frame / 10), 0.9 if frame in {20, 21, 22, 60, 90} else 0.5)
    chosen = kept.take(4, 2.5)
    times = [made.seconds or 0.0 for made in chosen]
    assert times == sorted(times)
    assert {2.0, 6.0, 9.0} <= set(times)
    assert min(np.diff(times)) > 0.5
    assert kept.take(4, 2.5) == []


@pytest.mark.parametrize(("seconds", "count"), [(0.2, 1), (2.6, 2), (9.0, 4), (100.0, 4)])
def test_a_longer_track_gives_more_crops_but_not_many(seconds: float, count: int) -> None:
    kept = TrackCrops()
    for frame in range(int(10 * seconds) + 1):
        kept.add(crop(frame / 10), 0.5)
    assert len(kept.take(4, 2.5)) == count


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 500)), min_size=1, max_size=200))
def test_the_best_of_all_is_among_them_in_bounded_memory(values: list[tuple[float, float]]) -> None:
    kept = TrackCrops()
    for value, seconds in sorted(values, key=lambda each: each[1]):
        kept.add(crop(seconds), value)
        assert len(kept._bins) <= 8
    chosen = kept.take(4, 2.5)
    best = max(value for value, _ in values)
    assert any((best, made.seconds) in values for made in chosen)
    assert 1 <= len(chosen) <= 4


def test_a_track_never_seen_well_gives_nothing() -> None:
    assert TrackCrops().take(4, 2.5) == []
