"""What is read off a picture of a person, and the words that mean it: the attributes of the drawn people."""

from typing import get_args

from textreid.synthetic import attributes as drawn

# By the names of `Person`. A garment that is not there has a value too, so that its absence can be seen.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": get_args(drawn.Gender),
    "hair_length": get_args(drawn.HairLength),
    "hair_colour": get_args(drawn.HairColour),
    "headwear": get_args(drawn.Headwear),
    "headwear_colour": drawn.COLOURS,
    "glasses": ("no", "yes"),
    "upper": get_args(drawn.UpperKind),
    "upper_colour": drawn.COLOURS,
    "upper_pattern": get_args(drawn.Pattern),
    "upper_second_colour": drawn.COLOURS,
    "sleeve": get_args(drawn.Sleeve),
    "inner_colour": ("no", *drawn.COLOURS),
    "lower": get_args(drawn.LowerKind),
    "lower_colour": drawn.COLOURS,
    "shoes": get_args(drawn.ShoesKind),
    "shoes_colour": drawn.COLOURS,
    "bag": get_args(drawn.BagKind),
    "bag_colour": drawn.COLOURS,
}
