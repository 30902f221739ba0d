"""A linear discriminant for each word: does the image look like the images whose captions say the word?

Errors are the minority: the mean of the image features of all captions that say "red" is one of red things. With the
covariance of all images, that makes Fisher's linear discriminant of the word against everything (Fisher 1936), and its
logarithm of the likelihood ratio is evidence against the word where it is negative. It costs no pass of the network.
A word alone does not say of what: so the same is done for pairs, a word with the content word that follows it. Both
read one picture, so that their evidence is averaged, not added up.

An image that has been met before would speak for its own captions, loudest for rare words. So images are dealt into
folds, and each is judged by those of the other folds (cross-fitting, Chernozhukov et al. 2018).

``B`` images, ``T`` captions of up to ``L`` tokens, ``D`` dimensions.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor, nn

from textreid.training.batch import Batch
from textreid.training.scorers.centred import DECAY
from textreid.training.scorers.words import Words

_CLASSES = 1 << 12  # words share them, and so do pairs
_FOLDS = 4  # 67 MB in all at 512 dimensions
_PRIORS = (5.0, 10.0)  # images that look like any, of which the mean of a word, and of a pair, begins
_RIDGE = 0.3  # of the mean variance, added to each
_LEAST_VARIANCE = 1e-6


class Discriminant(nn.Module):
    """Refinement that adds the evidence of the image against each word and each pair.

    Attributes:
        counts, sums: (folds, 2, classes) and (folds, 2, classes, D) of the image features of words, and of pairs.
        images, mean, moments: (), (D,) and (D, D): number of images, and sums of their features and of the products.
            All decay.
    """

    counts: Tensor
    sums: Tensor
    images: Tensor
    mean: Tensor
    moments: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(_FOLDS, 2, _CLASSES))
        self.register_buffer("sums", torch.zeros(_FOLDS, 2, _CLASSES, dimensions))
        self.register_buffer("images", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("moments", torch.zeros(dimensions, dimensions))

    @torch.no_grad()
    def refine(self, noise: Tensor, batch: Batch, words: Words, images: Tensor) -> Tensor:
        """Add the evidence by the statistics as they were before this step, then let it count."""
        features = F.normalize(images.float(), dim=1)
        caption, place = words.begins.nonzero(as_tuple=True)
        image = batch.image_index[caption]
        of_words, fold = features[image], torch.from_numpy(batch.images % _FOLDS).to(image.device)[image]
        classes = words.keys[:, caption, place] % _CLASSES
        evidence = torch.zeros_like(noise)
        evidence[caption, place] = -self._log_ratios(of_words, fold, classes)
        self._remember(features, of_words, fold, classes)
        return noise + torch.where(words.is_content, evidence.gather(1, words.first), 0.0)

    def _log_ratios(self, of_words: Tensor, fold: Tensor, classes: Tensor) -> Tensor:
        """Compute log p(image | class) - log p(image) of N words, the mean over their two classes: (N,).

        Args:
            of_words: (N, D) features of the image of each word.
            fold: (N,) of that image.
            classes: (2, N) of the word, and of its pair.
        """
        mean = self.mean / self.images.clamp(min=1)
        covariance = self.moments / self.images.clamp(min=1) - torch.outer(mean, mean)
        # Before there is any image, the covariance is one that makes nothing of the offsets, which are 0.
        ridge = _RIDGE * covariance.diagonal().mean() + _LEAST_VARIANCE
        covariance.diagonal().add_(ridge)
        factor, _ = torch.linalg.cholesky_ex(covariance)
        found = torch.zeros(len(of_words), device=of_words.device)
        for kind, prior in enumerate(_PRIORS):
            members = classes[kind]
            counts = (self.counts[:, kind, members].sum(dim=0) - self.counts[fold, kind, members])[:, None]
            sums = self.sums[:, kind].sum(dim=0)[members] - self.sums[fold, kind, members]
            # Towards the mean of all images: a class that nobody has met says nothing.
            offsets = (sums - counts * mean) / (counts + prior)
            ways = of_words - mean - offsets / 2
            found += (offsets * torch.cholesky_solve(ways.T, factor).T).sum(dim=1)
        return found / len(_PRIORS)

    def _remember(self, features: Tensor, of_words: Tensor, fold: Tensor, classes: Tensor) -> None:
        for total in self.buffers():
            total.mul_(DECAY)
        self.images += len(features)
        self.mean += features.sum(dim=0)
        self.moments += features.T @ features
        for kind, members in enumerate(classes):
            places = (2 * fold + kind) * _CLASSES + members
            self.counts.view(-1).index_add_(0, places, of_words.new_ones(len(members)))
            self.sums.view(-1, features.shape[1]).index_add_(0, places, of_words)
