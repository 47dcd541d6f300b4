"""open_clip's ViT image tower and its own text tower: the same sums as their `forward`, in less time.

What is left out or regrouped cannot change the result, and tests/test_towers.py compares every loss and gradient:

- A text's tokens see only earlier ones and the end-of-text token is read out, so nothing past it is computed. All
  texts of a batch lie in one long row without padding; only attention, a fiftieth of the work, sees them padded.
- Of the last block's output only one token a picture or text is read: queries, output projection and the whole
  perceptron run for that token alone.
- Queries, keys and values are one matrix product, and attention is PyTorch's fused one, not `nn.MultiheadAttention`.
- `QuickGELU(x) = x sigmoid(1.702 x) = silu(1.702 x) / 1.702`.

Parameters stay where open_clip keeps them. Towers of another make run open_clip's own forward: see `describe`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Attend = Callable[[Tensor, int], Tensor]  # (queries, keys and values; heads) -> what each token gathered


def encode_image(network: nn.Module, images: Tensor) -> Tensor:
    """What `network.encode_image(images, normalize=True)` gives: float (n, dim), rows of unit length."""
    visual = network.visual
    plain = is_plain_image_tower(visual) and type(network) in (CLIP, CustomTextCLIP)
    return _unit(_image_features(visual, images) if plain else network.encode_image(images))


def encode_text(network: nn.Module, tokens: Tensor) -> Tensor:
    """What `network.encode_text(tokens, normalize=True)` gives: float (n, dim), rows of unit length.

    `tokens` is int64 (n, context_length). Left on the CPU, they cost no wait for a GPU: their lengths are needed here.
    """
    tower = text_tower(network)
    if not is_plain_text_tower(network):
        return _unit(network.encode_text(tokens.to(network.logit_scale.device)))
    return _unit(_text_features(tower, tokens))


def _unit(features: Tensor) -> Tensor:
    """Rows of length 1, in float32 at least: what autocast left in bfloat16 would not have it."""
    return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


# ---- which towers are understood


def is_plain_image_tower(visual: nn.Module) -> bool:
    """Whether this is open_clip's ViT, read out at its class token."""
    return (
        type(visual) is VisionTransformer
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.output_tokens
        and _plain_blocks(visual.transformer)
    )


def is_plain_text_tower(network: nn.Module) -> bool:
    """Whether this is open_clip's causal text transformer, read out at the end-of-text token."""
    tower = text_tower(network)
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    mask = getattr(tower, "attn_mask", None)
    return (
        pool == "argmax"
        and getattr(tower, "cls_emb", None) is None
        and not getattr(tower, "output_tokens", False)
        and mask is not None
        and _plain_blocks(tower.transformer)
    )


def describe(network: nn.Module) -> str:
    """One line for the log: which towers run here and which run open_clip's own forward."""
    plain = {
        "image": (is_plain_image_tower(network.visual), network.visual),
        "text": (is_plain_text_tower(network), text_tower(network)),
    }
    parts = [
        f"{name} tower: {'short and fused' if fast else f'open_clip’s own forward ({type(tower).__name__})'}"
        for name, (fast, tower) in plain.items()
    ]
    return "; ".join(parts)


def text_tower(network: nn.Module) -> nn.Module:
    """open_clip's `CLIP` holds the text transformer's parts itself, `CustomTextCLIP` as a module."""
    return getattr(network, "text", network)


def _plain_blocks(transformer: nn.Module) -> bool:
    blocks = getattr(transformer, "resblocks", ())
    return bool(len(blocks)) and all(_is_plain(block) for block in blocks)


def _is_plain(block: nn.Module) -> bool:
    attention = getattr(block, "attn", None)
    return (
        isinstance(block, ResidualAttentionBlock)
        and not hasattr(block, "ln_1_kv")
        and isinstance(attention, nn.MultiheadAttention)
        and attention._qkv_same_embed_dim
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0
    )


# ---- the image tower


def _image_features(visual: VisionTransformer, images: Tensor) -> Tensor:
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (n, patches, width)
    first = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([first, x], dim=1) + visual.positional_embedding.to(x.dtype)
    x = visual.ln_pre(visual.patch_dropout(x))
    *blocks, last = visual.transformer.resblocks
    keep = visual.transformer.grad_checkpointing and torch.is_grad_enabled()
    for block in blocks:
        x = _kept_small(keep, _block, block, x, _attend)
    x = _kept_small(keep, _last_block, last, x, x[:, 0], _attend_from_one)
    pooled = visual.ln_post(x)
    return pooled if visual.proj is None else pooled @ visual.proj


def _attend(qkv: Tensor, heads: int, causal: bool = False) -> Tensor:
    """(n, length, 3 width) -> (n, length, width)."""
    n, length, width = qkv.shape
    q, k, v = qkv.view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)  # each (n, heads, length, width of a head)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return out.transpose(1, 2).reshape(n, length, width // 3)


def _attend_from_one(q: Tensor, kv: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """One query a row: (n, width) and (n, length, 2 width) -> (n, width). `seen`, bool (n, length), hides padding."""
    n, length, _ = kv.shape
    k, v = kv.view(n, length, 2, heads, -1).permute(2, 0, 3, 1, 4)
    mask = None if seen is None else seen[:, None, None, :]
    return functional.scaled_dot_product_attention(q.view(n, heads, 1, -1), k, v, attn_mask=mask).reshape(n, -1)


# ---- the text tower


@dataclass(frozen=True)
class _Packing:
    """Texts without their padding, one after the other: where each token stands in the padded table, and back."""

    n: int
    length: int  # of the longest text
    table: Tensor  # int64 (n_tokens,): a token's place in the flattened (n, length) table
    ends: Tensor  # int64 (n,): where each text's last token stands in the long row
    seen: Tensor  # bool (n, length): which places of the table hold a token

    def padded(self, x: Tensor) -> Tensor:
        """(n_tokens, width) -> (n, length, width), zero where there is no token."""
        table = x.new_zeros(self.n * self.length, x.shape[1]).index_copy(0, self.table, x)
        return table.view(self.n, self.length, -1)

    def packed(self, x: Tensor) -> Tensor:
        """(n, length, width) -> (n_tokens, width)."""
        return x.reshape(self.n * self.length, -1).index_select(0, self.table)


def _text_features(tower: nn.Module, tokens: Tensor) -> Tensor:
    device = tower.positional_embedding.device
    ends = tokens.argmax(dim=1)  # end-of-text has the largest id
    length = int(ends.max()) + 1
    seen = torch.arange(length, device=tokens.device) <= ends[:, None]
    table = seen.flatten().nonzero().squeeze(1)
    ids, places = tokens[:, :length].flatten()[table], table % length
    last = seen.sum(dim=1).cumsum(0) - 1
    ids, places, table, last, seen = (t.to(device, non_blocking=True) for t in (ids, places, table, last, seen))
    packing = _Packing(len(tokens), length, table, last, seen)

    x = functional.embedding(ids, tower.token_embedding.weight) + functional.embedding(
        places, tower.positional_embedding
    )
    *blocks, final = tower.transformer.resblocks
    keep = tower.transformer.grad_checkpointing and torch.is_grad_enabled()

    def attend(qkv: Tensor, heads: int) -> Tensor:
        return packing.packed(_attend(packing.padded(qkv), heads, causal=True))

    def attend_from_end(q: Tensor, kv: Tensor, heads: int) -> Tensor:
        return _attend_from_one(q, packing.padded(kv), heads, packing.seen)

    for block in blocks:
        x = _kept_small(keep, _block, block, x, attend)
    x = _kept_small(keep, _last_block, final, x, x.index_select(0, packing.ends), attend_from_end, packing.ends)
    x = tower.ln_final(x)
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Module) else x @ projection


# ---- one block


def _block(block: ResidualAttentionBlock, x: Tensor, attend: Attend) -> Tensor:
    attention = block.attn
    qkv = functional.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    x = x + block.ls_1(attention.out_proj(attend(qkv, attention.num_heads)))
    return x + block.ls_2(_perceptron(block.mlp, block.ln_2(x)))


def _last_block(
    block: ResidualAttentionBlock,
    x: Tensor,
    read: Tensor,
    attend: Callable[[Tensor, Tensor, int], Tensor],
    ends: Tensor | None = None,
) -> Tensor:
    """The block's output for the tokens that are read out, `read` (n, width): the first of each row, or at `ends`."""
    attention, width = block.attn, x.shape[-1]
    query_weight, key_value_weight = attention.in_proj_weight.split([width, 2 * width])
    query_bias, key_value_bias = attention.in_proj_bias.split([width, 2 * width])
    h = block.ln_1(x)
    kv = functional.linear(h, key_value_weight, key_value_bias)
    q = functional.linear(h[:, 0] if ends is None else h.index_select(0, ends), query_weight, query_bias)
    x = read + block.ls_1(attention.out_proj(attend(q, kv, attention.num_heads)))
    return x + block.ls_2(_perceptron(block.mlp, block.ln_2(x)))


def _perceptron(mlp: nn.Sequential, x: Tensor) -> Tensor:
    up, down = mlp.c_fc, mlp.c_proj
    if type(mlp.gelu) is not QuickGELU:
        return mlp(x)
    k = 1.702  # carried by the weights, of which there are fewer numbers than of activations
    h = functional.silu(functional.linear(x, up.weight * k, up.bias * k))
    return functional.linear(h, down.weight / k, down.bias)


def _kept_small(keep: bool, function: Callable[..., Tensor], *args: object) -> Tensor:
    """The function's value; with `keep`, nothing inside is stored for the backward pass but computed again."""
    return checkpoint(function, *args, use_reentrant=False) if keep else function(*args)
