"""Small transformers for the tests."""

from __future__ import annotations

import timm.models.vision_transformer as timm_vit
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer
from torchvision.models import VisionTransformer as TorchvisionViT

from tests.model.nets import filled

SIZE = (32, 48)


def timm_net(**settings: object) -> nn.Module:
    """Two blocks of patches of 8 pixels, as DINO has them: a class token, two registers."""
    known: dict[str, object] = {"img_size": SIZE, "reg_tokens": 2, "num_classes": 5}
    more = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return filled(timm_vit.VisionTransformer(**{**known, **more, **settings}))


def torchvision_net() -> nn.Module:
    return filled(
        TorchvisionViT(
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=24,
            mlp_dim=48,
            num_classes=5,
        )
    )


def swin_net() -> nn.Module:
    return filled(SwinTransformer([4, 4], 16, [2, 2], [2, 2], [2, 2], num_classes=5))


class Plain(nn.Module):
    """A transformer as people write it: patches by reshaping, blocks that are no modules."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.embed = nn.Linear(3 * 8 * 8, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, 16))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(4))
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(16, 2, batch_first=not first) for _ in range(2)
        )
        self.widen = nn.ModuleList(nn.Linear(16, 40) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(20, 16) for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        patches = x.reshape(n, c, height // 8, 8, width // 8, 8).permute(0, 2, 4, 3, 5, 1)
        x = self.embed(patches.reshape(n, -1, 192))
        x = torch.cat([self.cls.expand(n, -1, -1), x], dim=1)
        x = x.transpose(0, 1) if self.first else x
        for i in range(2):
            y = self.norms[2 * i](x)
            x = x + self.attention[i](y, y, y, need_weights=False)[0]
            gate, value = self.widen[i](self.norms[2 * i + 1](x)).chunk(2, dim=-1)
            x = x + self.back[i](torch.nn.functional.silu(gate) * value)
        return self.head(x[0] if self.first else x[:, 0])
