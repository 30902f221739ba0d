"""How large a demo is: as many people and epochs as its time allows, by what a few of them took on this machine."""

from dataclasses import dataclass

IMAGES_EACH = 2  # of a person who is trained on
_SPARE = 0.85  # of the time is planned for: a machine may be busier later than it was when it was timed


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo; the time decides how many people and epochs there are."""

    unseen_identities: int = 100
    unseen_images: int = 4  # of each of them
    first_identities: int = 64  # who are trained on first, for a moment, to time it
    least_identities: int = 150
    most_identities: int = 1500
    epochs: int = 4
    most_epochs: int = 8  # where all people fit
    minutes: float = 5.0
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True)
class Costs:
    """Seconds that were measured here.

    Attributes:
        before: of an image before it is trained on: drawn, captioned, read, and put through the frozen trunk.
        visit: of an image and its captions in an epoch.
        once: of what is done once, whatever the size.
    """

    before: float
    visit: float
    once: float


@dataclass(frozen=True)
class Size:
    """Number of people who are trained on, and how often."""

    identities: int
    epochs: int

    @property
    def images(self) -> int:
        """Number of their images."""
        return self.identities * IMAGES_EACH


def fit(costs: Costs, seconds: float, settings: DemoSettings) -> Size:
    """Choose the size that ``seconds`` are enough for; the smallest where they are not enough for any.

    There are as many people as fit with the epochs of ``settings``. Where these are all, epochs are added; where they
    are too few to learn from, epochs are left out.
    """
    each = (seconds * _SPARE - costs.once) / IMAGES_EACH
    people = int(each / (costs.before + settings.epochs * costs.visit))
    count = min(max(people, settings.least_identities), settings.most_identities)
    if count == people:
        return Size(count, settings.epochs)
    epochs = int((each / count - costs.before) / costs.visit)
    return Size(count, min(max(1, epochs), settings.most_epochs))
