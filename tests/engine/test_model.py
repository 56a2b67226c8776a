"""SemiGDA's shapes, what is frozen, and that both branches reach the output."""

import pytest
import torch

from napari_semigda.engine.alignment import LatentEncoder, LatentMapper
from napari_semigda.engine.backbones import load_backbone
from napari_semigda.engine.consensus import Belief
from napari_semigda.engine.model import SemiGDA


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return SemiGDA(load_backbone("compact"), 4)


def test_probabilities_of_every_class_and_size(model):
    branches = model(torch.rand(2, 3, 64, 96) * 2 - 1)
    assert branches.v.shape == branches.c.shape == (2, 4, 64, 96)
    belief = Belief(branches.v.exp(), branches.c.exp(), model.v_share)
    assert torch.allclose(belief.probability.sum(1), torch.ones(2, 64, 96), atol=1e-5)
    assert 0 <= belief.disagreement.min() <= belief.disagreement.max() <= 1


def test_the_autoencoder_stays_frozen(model):
    model.train()
    model.zero_grad()
    sum(branch.exp().square().sum() for branch in model(torch.rand(1, 3, 64, 64))).backward()
    assert not any(w.requires_grad for w in model.backbone.parameters())
    assert not model.backbone.training
    assert all(w.grad is not None for n, w in model.trained_parts().items() if "adapters" in n)


def test_untrained_adapters_leave_the_generative_decoder_as_it_is(model):
    latents = model.align(torch.rand(1, 3, 64, 64))
    plain = model.backbone.decode(latents.c)
    adapted = model.backbone.decode(
        latents.c, lambda level, x: model.mask_adapters[level](x, latents.features_c[level])
    )
    assert torch.equal(plain, adapted)


def test_a_masks_latent_decodes_to_that_mask(model):
    """The generative path itself: paint, encode, decode, read the classes back."""
    from napari_semigda.engine import palette

    mask = torch.zeros(1, 96, 96, dtype=torch.long)
    mask[:, 20:70, 10:50], mask[:, 40:80, 55:90] = 1, 3
    picture = model.backbone.decode(model.mask_latent(mask))
    read = palette.scores(picture, 4).argmax(1)
    assert (read == mask).float().mean() > 0.97


def test_how_strong_the_cnns_features_are_makes_no_difference_to_what_they_say(model):
    """As when a stain is paler in one picture than in another."""
    fuse, features = model.latent_encoder.fuse, torch.randn(1, LatentEncoder.WIDTH, 12, 12)
    with torch.no_grad():
        assert torch.allclose(fuse(features), fuse(3 * features), atol=1e-3)
        assert not torch.allclose(fuse(features), fuse(features.flip(3)), atol=1e-1)


def test_sampling_the_latent_only_changes_branch_v(model):
    model.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        mean, draw = model.align(image), model.align(image, sample=True)
    assert torch.equal(mean.c, draw.c)
    assert not torch.equal(mean.v, draw.v)


def test_mapper_keeps_the_resolution_and_sees_the_whole_latent():
    torch.manual_seed(0)
    mapper = LatentMapper(4, width=8)
    for block in mapper.modules():
        if hasattr(block, "project") and hasattr(block, "query_key_value"):
            torch.nn.init.normal_(block.project.weight, std=0.1)  # attention starts as the identity
    latent = torch.randn(1, 4, 40, 40, requires_grad=True)
    out = mapper(latent)
    assert out.shape == latent.shape
    out[0, :, 0, 0].sum().backward()
    assert latent.grad[0, :, 39, 39].abs().max() > 0
