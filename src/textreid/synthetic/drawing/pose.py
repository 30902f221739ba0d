"""The body in three dimensions: joints of a standing or walking person, and their place in the picture.

Lengths are in statures: the ground is 0, the top of the head 1. A body point is (lateral towards the person's left,
forward, up).
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from textreid.seeding import Chance
from textreid.synthetic.attributes import Direction, Person
from textreid.synthetic.drawing.canvas import Point

Joint = tuple[float, float, float]
ArmPose = Literal["hang", "swing", "pocket", "ear", "chest", "strap", "raise", "pull"]
_YAW: dict[Direction, float] = {"front": 0.0, "back": 180.0, "left": -90.0, "right": 90.0}


def sine(degrees: float) -> float:
    """Compute the sine, rounded so that the last bit of a platform's library cannot show."""
    return round(math.sin(math.radians(degrees)), 7)


def cosine(degrees: float) -> float:
    """Compute the cosine, rounded as `sine`."""
    return round(math.cos(math.radians(degrees)), 7)


@dataclass
class Projection:
    """Projection of the body's space on the picture: a yaw, a camera that looks down, weak perspective."""

    yaw: float  # degrees; 0 faces the camera, 90 faces the right side of the picture
    pitch: float  # degrees the camera looks down
    size: float  # pixels of one stature
    x: float  # pixel of the body's axis
    ground: float  # pixel row of the ground under the body
    perspective: float = 0.0  # how much larger the head is than the feet
    lean: float = 0.0  # forward shift of the head
    tilt: float = 0.0  # sideways shift of the head in the picture

    def __post_init__(self) -> None:
        self.sin, self.cos = sine(self.yaw), cosine(self.yaw)
        self.down, self.along = sine(self.pitch), cosine(self.pitch)

    def place(self, joint: Joint) -> Point:
        """Return the pixel of a body point."""
        lateral, forward, up = joint
        # Squared: the feet stay where they are, and the head moves most.
        forward += self.lean * up * up
        across = lateral * self.cos + forward * self.sin + self.tilt * up
        away = lateral * self.sin - forward * self.cos
        zoom = self.size * (1 + self.perspective * (up - 0.5))
        # The rows of the feet and of the crown are fixed; perspective shifts what lies between.
        rise = up * (1 + self.perspective * 0.5 * (up - 1))
        return self.x + across * zoom, self.ground - (rise * self.along + away * self.down) * self.size

    def away(self, joint: Joint) -> float:
        """Return how far behind the body's axis a point lies, seen from the camera."""
        return joint[0] * self.sin - joint[1] * self.cos

    def half_width(self, a: float, b: float) -> float:
        """Return half the picture's width, in statures, of a level ellipse with half-axes ``a`` (lateral) and ``b``."""
        return math.sqrt((a * self.cos) ** 2 + (b * self.sin) ** 2)


@dataclass
class Body:
    """Sizes of one person and the joints of one moment."""

    shoulder: float
    slices: list[tuple[float, float, float]]  # up, half-width, half-depth; from the shoulders down to the crotch
    thigh: float
    arm: float
    head: float
    legs: list[tuple[Joint, Joint, Joint]] = field(default_factory=list)  # hip, knee, ankle; right then left
    arms: list[tuple[Joint, Joint, Joint]] = field(default_factory=list)  # shoulder, elbow, wrist; right then left

    def slice(self, up: float) -> tuple[float, float]:
        """Return half-width and half-depth of the torso at a height."""
        rows = self.slices
        if up >= rows[0][0]:
            return rows[0][1:]
        for (z0, a0, b0), (z1, a1, b1) in pairwise(rows):
            if up >= z1:
                t = (z0 - up) / (z0 - z1)
                return a0 + (a1 - a0) * t, b0 + (b1 - b0) * t
        return rows[-1][1:]


def build_body(person: Person, chance: Chance) -> Body:
    """Draw by lot the sizes of ``person``; ``chance`` is the identity's."""
    girth = {"slim": 0.9, "average": 1.0, "heavy": 1.17}[person.build] * chance.between(0.97, 1.03)
    belly = {"slim": 0.88, "average": 1.0, "heavy": 1.36}[person.build]
    man = person.gender == "man"
    shoulder = (0.100 if man else 0.088) * (0.6 + 0.4 * girth) * chance.between(0.96, 1.04)
    chest, waist, hip = (0.091, 0.081, 0.084) if man else (0.081, 0.069, 0.088)
    depth = 0.066 * girth
    slices = [
        (0.856, 0.034, 0.034),
        (0.840, shoulder * 0.58, 0.044),
        (0.820, shoulder * 0.92, 0.054),
        (0.770, shoulder * 1.02, depth * (1.0 if man else 1.04)),
        (0.700, chest * girth, depth * (1.02 if man else 1.08)),
        (0.615, waist * girth * (0.7 + 0.3 * belly), depth * 0.92 * belly),
        (0.530, hip * girth, depth * 1.06),
        (0.465, hip * girth * 0.96, depth * 0.98),
    ]
    head = chance.between(0.96, 1.06) * (1.0 if man else 0.98)
    return Body(shoulder, slices, (0.05 if man else 0.052) * girth, 0.031 * (0.5 + 0.5 * girth), head)


def strike_pose(body: Body, walking: bool, arms: tuple[ArmPose, ArmPose], chance: Chance) -> None:
    """Set the joints; ``arms`` are right then left."""
    phase = chance.between(0, 360)
    stride = chance.between(17, 29) if walking else 0.0
    stance = chance.between(0.035, 0.055)
    for side in (-1, 1):
        swing = side * sine(phase)
        # A quarter of a cycle off the swing: a foot is highest where it passes the other one.
        lift = max(0.0, side * cosine(phase))
        thigh = stride * swing + 6 * lift * (stride > 0) + (0 if walking else chance.between(-4, 5))
        knee = 6 + stride * 1.5 * lift + 0.25 * stride * max(0.0, -swing) if walking else chance.between(0, 9)
        spread = 0 if walking else chance.between(0, 0.018)
        # Thigh and shin take 0.465 of the 0.505: the ankle of a straight leg is 0.04 above the ground.
        hip = (side * stance, 0.0, 0.505)
        bend = (side * (stance + spread * 0.5), 0.23 * sine(thigh), 0.505 - 0.23 * cosine(thigh))
        shin = thigh - knee
        ankle = (side * (stance - 0.008 + spread), bend[1] + 0.235 * sine(shin), bend[2] - 0.235 * cosine(shin))
        body.legs.append((hip, bend, ankle))
    _stand_on_ground(body)
    for side, mode in zip((-1, 1), arms, strict=True):
        # An arm swings against the leg of its own side.
        body.arms.append(_arm(body, side, mode, -side * sine(phase) * stride, chance))


def pick_yaw(direction: Direction, chance: Chance) -> float:
    """Pick degrees of yaw: the named direction and up to 45 degrees beside it, seldom that far."""
    return _YAW[direction] + chance.middle(-45, 45)


def _stand_on_ground(body: Body) -> None:
    # The hips stay, because the torso is drawn at fixed heights: the legs reach for the ground that bent knees left.
    drop = min(leg[2][2] for leg in body.legs) - 0.042
    body.legs = [
        ((hip[0], hip[1], hip[2]), (knee[0], knee[1], knee[2] - drop * 0.7), (ankle[0], ankle[1], ankle[2] - drop))
        for hip, knee, ankle in body.legs
    ]


def _arm(body: Body, side: int, mode: ArmPose, swing: float, chance: Chance) -> tuple[Joint, Joint, Joint]:
    # All poses draw their angles and one is taken, so that what is drawn later is the same in every pose. Nobody takes
    # "strap"; without it, all pictures would change.
    upper, bend, inward, abduct = {
        "hang": (chance.between(-8, 6), chance.between(4, 22), 0.15, chance.between(3, 12)),
        "swing": (swing * 1.1 + chance.between(-4, 4), 14 + max(0.0, swing), 0.2, chance.between(3, 10)),
        "pocket": (-14.0, chance.between(38, 58), 0.2, chance.between(8, 16)),
        "ear": (chance.between(25, 50), chance.between(125, 140), 0.25, 20.0),
        "chest": (chance.between(4, 22), chance.between(80, 112), chance.between(0.25, 0.5), 6.0),
        "strap": (chance.between(10, 25), chance.between(118, 135), 0.1, 10.0),
        "raise": (chance.between(20, 35), chance.between(105, 125), 0.15, 8.0),
        "pull": (chance.between(-28, -12), chance.between(0, 10), 0.0, 10.0),
    }[mode]
    shoulder = (side * body.shoulder, 0.0, 0.796)
    elbow = (
        side * (body.shoulder + 0.158 * sine(abduct)),
        0.158 * sine(upper),
        0.796 - 0.158 * cosine(upper) * cosine(abduct),
    )
    reach = upper + bend
    wrist = (
        elbow[0] - side * 0.14 * inward + side * 0.14 * sine(abduct) * 0.3,
        elbow[1] + 0.14 * sine(reach) * (1 - 0.4 * inward),
        elbow[2] - 0.14 * cosine(reach),
    )
    return shoulder, elbow, wrist
