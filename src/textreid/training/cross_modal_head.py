"""Predicts masked words from their caption and its image; a head for training that retrieval does without."""

import torch
from torch import nn

LAYERS = 4  # of the transformer after the cross-attention (Jiang & Ye, CVPR 2023, §4.1)
_HEAD_WIDTH = 64  # channels of an attention head, as in CLIP


class CrossModalHead(nn.Module):
    """Implicit relation reasoning (Jiang & Ye, CVPR 2023, §3.3): ``Transformer(attention(text, image, image))``.

    The tokens of a caption ask, those of its image answer; a transformer without causal mask puts the answers in
    relation to each other; a two-layer perceptron gives a score to every word of the vocabulary.

    Shapes: ``T`` captions of ``L`` tokens, ``M`` image tokens, ``D`` dimensions, ``V`` ids.
    """

    def __init__(self, width: int, vocabulary_size: int) -> None:
        super().__init__()
        heads = next(count for count in range(max(1, width // _HEAD_WIDTH), 0, -1) if width % count == 0)
        self.text_norm = nn.LayerNorm(width)
        self.image_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        # Without dropout, masks of padding change nothing but the values of padding.
        self.transformer = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)
        self.dense = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.vocabulary = nn.Linear(width, vocabulary_size)
        self._initialize(width)

    def forward(
        self, text_tokens: torch.Tensor, image_tokens: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:
        """Scores (K, V) of every id at the K chosen positions, row by row.

        Args:
            text_tokens: (T, L, D) of the masked captions.
            image_tokens: (T, M, D) of the image of each caption, class token included.
            lengths: (T,) tokens of each caption; what lies beyond is padding, which nothing sees.
            chosen: (T, L) bool, the positions to predict.
        """
        images = self.image_norm(image_tokens)
        answers, _ = self.attention(self.text_norm(text_tokens), images, images, need_weights=False)
        padding = torch.arange(text_tokens.shape[1], device=lengths.device) >= lengths[:, None]
        hidden = self.transformer(answers, src_key_padding_mask=padding.to(answers.device, non_blocking=True))
        scores: torch.Tensor = self.vocabulary(self.dense_norm(nn.functional.gelu(self.dense(hidden[chosen]))))
        return scores

    def _initialize(self, width: int) -> None:
        """Deviations that shrink with width and depth, as in CLIP's towers (Radford et al. 2021, release)."""
        towards_sum = width**-0.5 * (2 * LAYERS) ** -0.5
        _initialize_attention(self.attention, width**-0.5, towards_sum)
        for layer in self.transformer.layers:
            _initialize_attention(layer.self_attn, width**-0.5, towards_sum)
            nn.init.normal_(layer.linear1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(layer.linear2.weight, std=towards_sum)
        for linear in (self.dense, self.vocabulary):
            nn.init.normal_(linear.weight, std=width**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)


def _initialize_attention(attention: nn.MultiheadAttention, inner: float, outer: float) -> None:
    nn.init.normal_(attention.in_proj_weight, std=inner)
    nn.init.normal_(attention.out_proj.weight, std=outer)
