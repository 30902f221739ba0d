from typing import Any

import torch
from tests.training.scorers.conftest import CAPTIONS, Scene

from textreid.training.scorers.attention import AttentionScorer
from textreid.training.scorers.leave_one_out import log_shares


def test_noise_is_what_attention_and_its_own_gradient_leave(scene: Scene) -> None:
    """Against a last layer that is written out for one caption, to whose attention something of size 0 is added."""
    (micro,) = scene.batch.micro_batches()
    images = scene.outputs.image_features
    found = AttentionScorer(0.1).noise(scene.network, micro, scene.outputs, images)
    tower = scene.network.encoder.text_model
    layers: Any = tower.encoder.layers
    last, heads = layers[-1], layers[-1].self_attn.heads
    for row in range(len(CAPTIONS)):
        length = int(scene.batch.lengths[row])
        hidden = tower.embeddings(scene.batch.ids[row : row + 1, :length])
        for layer in layers[:-1]:
            hidden = layer(hidden)
        normed = last.layer_norm1(hidden)
        q = last.self_attn.q_proj(normed[:, -1]).view(heads, 1, -1)
        k, v = (
            project(normed)[0].view(length, heads, -1).transpose(0, 1)
            for project in (last.self_attn.k_proj, last.self_attn.v_proj)
        )
        weights = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2)
        nothing = torch.zeros_like(weights, requires_grad=True)
        attended = ((weights + nothing) @ v).transpose(0, 1).reshape(1, -1)
        end = hidden[:, -1] + last.self_attn.out_proj(attended)
        end = end + last.mlp(last.layer_norm2(end))
        text = scene.network.encoder._project_text(end)
        (slope,) = torch.autograd.grad(log_shares(text, images, scene.batch.image_index[row : row + 1], 0.1), nothing)
        relevance = (weights * slope).clamp(min=0).sum(dim=0)[0][1 : length - 1]
        expected = 1 - relevance / relevance.max()
        torch.testing.assert_close(found[row, 1 : length - 1], expected.detach(), atol=1e-4, rtol=1e-4)
        assert not found[row, length - 1 :].any()
    assert (found > 0.5).any()
    assert all(parameter.grad is None for parameter in scene.network.parameters())
