"""Names and shapes of the tensors of the published BLIP and ImageReward checkpoints."""

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention(name: str, keys: int) -> Shapes:
    """BERT's attention to something of width `keys`."""
    shapes = (
        linear(f"{name}.self.query", 768, 768)
        | linear(f"{name}.self.key", 768, keys)
        | linear(f"{name}.self.value", 768, keys)
    )
    return shapes | linear(f"{name}.output.dense", 768, 768) | norm(f"{name}.output.LayerNorm", 768)


def published_shapes(reward: bool) -> Shapes:
    """ViT-L/16 at 224 pixels, BERT-base with cross-attention and, for a reward, ImageReward's layers."""
    shapes: Shapes = {"visual_encoder.cls_token": (1, 1, 1024), "visual_encoder.pos_embed": (1, 197, 1024)}
    shapes |= {
        "visual_encoder.patch_embed.proj.weight": (1024, 3, 16, 16),
        "visual_encoder.patch_embed.proj.bias": (1024,),
    }
    for block in (f"visual_encoder.blocks.{number}" for number in range(24)):
        shapes |= norm(f"{block}.norm1", 1024) | norm(f"{block}.norm2", 1024)
        shapes |= linear(f"{block}.attn.qkv", 3072, 1024) | linear(f"{block}.attn.proj", 1024, 1024)
        shapes |= linear(f"{block}.mlp.fc1", 4096, 1024) | linear(f"{block}.mlp.fc2", 1024, 4096)
    shapes |= norm("visual_encoder.norm", 1024)
    shapes |= {
        f"text_encoder.embeddings.{name}_embeddings.weight": (size, 768)
        for name, size in (("word", 30_524), ("position", 512))
    }
    shapes |= norm("text_encoder.embeddings.LayerNorm", 768)
    for layer in (f"text_encoder.encoder.layer.{number}" for number in range(12)):
        shapes |= attention(f"{layer}.attention", 768) | attention(f"{layer}.crossattention", 1024)
        shapes |= linear(f"{layer}.intermediate.dense", 3072, 768) | linear(
            f"{layer}.output.dense", 768, 3072
        )
        shapes |= norm(f"{layer}.output.LayerNorm", 768)
    shapes |= linear("vision_proj", 256, 1024) | linear("text_proj", 256, 768)
    shapes = {f"blip.{name}": shape for name, shape in shapes.items()}
    sizes = (
        {"0": (1024, 768), "2": (128, 1024), "4": (64, 128), "6": (16, 64), "7": (1, 16)} if reward else {}
    )
    for number, (outputs, inputs) in sizes.items():
        shapes |= linear(f"mlp.layers.{number}", outputs, inputs)
    return shapes
