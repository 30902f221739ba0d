"""Who is drawn: a person with a body in its pose, and measures of that body that clothes and bags are hung by."""

from dataclasses import dataclass

from bodies.anatomy import Skull, skull
from bodies.bank import BONES, Bank
from bodies.layers import Materials
from bodies.mesh import Flags, Floats
from bodies.posing import Posed
from bodies.tailoring import Cut
from textreid.synthetic.attributes import Person
from textreid.synthetic.drawing.figure import Appearance


@dataclass(frozen=True)
class Wearer:
    """A person, their body in its pose, and the cut of their clothes."""

    person: Person
    look: Appearance
    cut: Cut
    bank: Bank
    number: int
    chart: Floats  # (V, `anatomy.WIDTH`)
    posed: Posed
    materials: Materials

    @property
    def shoulder(self) -> float:
        """Return half the width between the shoulders' joints, in metres."""
        return float(abs(self.posed.rest[BONES.index("upper arm.L"), 0]))

    @property
    def hips(self) -> float:
        """Return the height of the hips' joints in this pose."""
        return float((self.posed.head("thigh.L")[2] + self.posed.head("thigh.R")[2]) / 2)

    @property
    def torso(self) -> float:
        """Return the length from the hips' joints to the root of the neck."""
        rest = self.posed.rest
        return float(rest[BONES.index("neck"), 2] - rest[BONES.index("thigh.L"), 2])

    def below_hips(self, bones: float) -> float:
        """Return the height that lies ``bones`` down a straight leg: 1 at the knee, 2 at the ankle."""
        rest = self.posed.rest
        thigh, shin, foot = (float(rest[BONES.index(f"{name}.L"), 2]) for name in ("thigh", "shin", "foot"))
        return self.hips - min(bones, 1.0) * (thigh - shin) - max(0.0, bones - 1.0) * (shin - foot)

    def at_height(self, share: float) -> float:
        """Return the height of a place on the torso: 0 at the hips, 1 at the root of the neck."""
        return self.hips + share * self.torso

    def skull(self) -> Skull:
        """Find the skull in this pose."""
        rest = skull(self.bank, self.number)
        bone = BONES.index("head")
        turn = self.posed.turns[bone]
        return Skull(turn @ (rest.middle - self.posed.rest[bone]) + self.posed.heads[bone], rest.half, turn)

    def armless(self, most: float) -> Flags:
        """Choose the vertices (V,) that arms move by a weight below ``most``: an arm would push out what hangs."""
        return self.bank.weight_of("upper arm", "forearm", "hand") < most
