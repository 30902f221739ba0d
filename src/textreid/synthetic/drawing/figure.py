"""What the drawing functions share about one person, and what the arms do."""

from dataclasses import dataclass, replace

from textreid.seeding import Chance
from textreid.synthetic.attributes import Held, Person
from textreid.synthetic.drawing.appearance import Appearance
from textreid.synthetic.drawing.canvas import Canvas, Material, Part, Point
from textreid.synthetic.drawing.pose import ArmPose, Body, Joint, Projection, cosine, sine


@dataclass
class Figure:
    """What the drawing functions share: who is drawn, in which pose, seen from where, on what."""

    person: Person
    look: Appearance
    body: Body
    view: Projection
    canvas: Canvas
    chance: Chance  # of this picture
    walking: bool
    modes: tuple[ArmPose, ArmPose]  # of the right and the left arm

    @property
    def size(self) -> float:
        """Pixels of one stature."""
        return self.view.size

    @property
    def facing(self) -> float:
        """1 faces the camera, -1 turns the back, 0 is a side view."""
        return self.view.cos

    def at(self, lateral: float, forward: float, up: float) -> Point:
        """The pixel of a body point."""
        return self.view.place((lateral, forward, up))

    def skin(self, part: Part) -> Material:
        """Skin that counts as ``part``."""
        return replace(self.look.skin, part=part)

    def surface(self, up: float, angle: float, pad: float = 0.0) -> Point:
        """The pixel of the trunk's surface at a height and an angle from straight ahead (positive: person's left).

        Angles that the camera cannot see slide to the nearest edge of the trunk.
        """
        turned = (angle + self.view.yaw + 180) % 360 - 180
        angle += max(-90.0, min(90.0, turned)) - turned
        a, b = self.body.slice(up)
        return self.view.place(((a + pad) * sine(angle), (b + pad) * cosine(angle), up))

    def seen(self, angle: float) -> bool:
        """Whether the trunk's surface at ``angle`` is turned to the camera."""
        return cosine(angle + self.view.yaw) > 0

    def pixels(self, joints: tuple[Joint, ...]) -> list[Point]:
        """The pixels of body points."""
        return [self.view.place(joint) for joint in joints]


def arm_poses(person: Person, walking: bool, chance: Chance) -> tuple[ArmPose, ArmPose]:
    """What the right and the left arm do: what is carried decides first."""
    free: ArmPose = chance.weighted(
        {"swing" if walking else "hang": 0.68, "pocket": 0.14, "hang": 0.1, "chest": 0.05 if walking else 0.1}
    )
    right, left = free, free if chance.happens(0.6) else "swing" if walking else "hang"
    swap = chance.happens(0.5)
    ear = chance.happens(0.45)
    modes: dict[Held, ArmPose] = {
        "phone": "ear" if ear else "chest",
        "papers": "chest",
        "bottle": "chest" if ear else "hang",
        "umbrella": "raise",
    }
    right = modes.get(person.held, right)
    if person.bag in ("handbag", "carrier bag"):
        left = "hang"
    elif person.bag == "suitcase":
        left = "pull"
    return (left, right) if swap else (right, left)
