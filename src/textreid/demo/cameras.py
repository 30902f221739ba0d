"""The cameras of the demo: those of a drawn station at night, when sodium lamps are all the light.

The lamps are orange and have hardly any blue: white looks yellow, and blue looks black. There is little light, so that
pictures are noisy and coarse. No domain is like that, and the bundled model has seen none of the station either.

By day it finds the right person first for 82 % of the sentences about a hundred people, and loses four points in 76
steps of the demo's training: there is little left to learn but the captions' errors. By night it
begins at 31 % (seed 7).
"""

from dataclasses import replace

from textreid.synthetic import Domain, Person, Shot, render
from textreid.synthetic.drawing.camera import Camera

STATION = "station"
PLACE = "a station at night, under sodium lamps"
# Times what the cameras have by day.
_RED, _BLUE, _SATURATION, _EXPOSURE = 1.35, 0.45, 0.6, 0.8
# Added to it: grey levels, and pixels of radius at a crop height of 128.
_NOISE, _BLUR = 4.0, 0.6
_UPSCALED = 0.7


def render_at_night(person: Person, identity: int, domain: Domain, camera: int, seed: int) -> Shot:
    """Draw a crop as `render` does, under the lamps; a renderer of `textreid.synthetic.write_corpus`."""
    cameras = tuple(_at_night(one) for one in domain.cameras)
    return render(person, identity, replace(domain, cameras=cameras), camera, seed)


def _at_night(camera: Camera) -> Camera:
    red, green, blue = camera.gains
    return replace(
        camera,
        gains=(red * _RED, green, blue * _BLUE),
        saturation=camera.saturation * _SATURATION,
        exposure=camera.exposure * _EXPOSURE,
        noise=camera.noise + _NOISE,
        blur=camera.blur + _BLUR,
        upscaled=_UPSCALED,
    )
