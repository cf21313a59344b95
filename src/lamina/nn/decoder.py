"""One small causal language model for every layer that remembers: the same trunk around whatever is compared.

``x += mixer(norm(x)); z = norm(x); x += ffn(z) + side(z)``, with tied embeddings: what differs between two arms stands
in the configuration. It is a transformers model (``save_pretrained``, ``generate``, ``AutoModelForCausalLM``), whose
cache holds whatever its mixers keep (``DecodingCache``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lamina.errors import InvalidInput
from lamina.nn import initialization
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext, DecodingCache
from lamina.nn.short_convolution import ShortConvolution
from lamina.nn.slots import build

_IGNORED = -100


@dataclass
class LaminaOutput(CausalLMOutputWithPast):
    """``aux_loss``: what blocks ask of training beside the prediction, in ``loss`` too; ``stats``: what they told."""

    aux_loss: Tensor | None = None
    stats: dict[str, Tensor] | None = None


class Block(nn.Module):
    """One layer of the trunk."""

    def __init__(self, config: LaminaConfig, layer: int) -> None:
        super().__init__()
        self.norm_mixer = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.conv = ShortConvolution(config.hidden_size, config.short_conv) if config.short_conv else None
        self.mixer = build(config, "mixer", layer)
        self.ffn, self.side = build(config, "ffn", layer), build(config, "side", layer)
        self.norm_ffn = nn.RMSNorm(config.hidden_size, config.norm_eps) if self.ffn or self.side else None

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""
        assert self.mixer is not None
        x = x + self.mixer(self._convolved(self.norm_mixer(x), ctx), ctx)
        if self.norm_ffn is None:
            return x
        z = self.norm_ffn(x)
        for block in (self.ffn, self.side):
            if block is not None:
                x = x + block(z, ctx)
        return x

    def _convolved(self, z: Tensor, ctx: BlockContext) -> Tensor:
        if self.conv is None:
            return z
        kept = {} if ctx.state is None else ctx.state.tensors
        near, tail = self.conv(z * ctx.mask[..., None], kept.get("conv.tail"))
        if ctx.state is not None:
            ctx.state.tensors["conv.tail"] = tail
        joined: Tensor = z + near
        return joined


class LaminaPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What transformers must know of these models."""

    config_class = LaminaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = False
    _no_split_modules = ["Block"]  # noqa: RUF012 - as transformers declares it

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        config = self.config
        assert isinstance(config, LaminaConfig)
        initialization.default(module, config)
        if (own := getattr(module, "init_weights", None)) is not None and module is not self:
            own(config)

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:  # noqa: ARG002
        # Outside of transformers' own files it passes over modules without weights of their own, as if they had been
        # loaded; but a block's rules are about the modules in it. Weights that were loaded are marked one by one.
        super()._initialize_weights(module, is_custom_code=False)


class LaminaModel(LaminaPreTrainedModel):  # type: ignore[no-untyped-call]
    """The trunk: token ids to hidden states."""

    def __init__(self, config: LaminaConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        sides = [layer.side for layer in self.layers]
        for number, side in enumerate(sides):
            if (join := getattr(side, "join", None)) is not None:
                join(number, sides)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DecodingCache | None = None,
        inputs_embeds: Tensor | None = None,
        route: Any = None,
    ) -> tuple[Tensor, BlockContext]:
        """Hidden states ``(batch, time, width)`` after the last norm, and the context of the pass.

        ``attention_mask`` ``(batch, at least time)``: 0 where a row is padded; its last columns are those of the ids.
        """
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        ctx = self._context(x, attention_mask, past_key_values, route)
        for number, layer in enumerate(self.layers):
            state = None if past_key_values is None else past_key_values.states[number]
            x = layer(x, ctx.of_layer(number, state))
        hidden: Tensor = self.norm(x)
        return hidden, ctx

    def _context(
        self, x: Tensor, attention_mask: Tensor | None, cache: DecodingCache | None, route: Any
    ) -> BlockContext:
        batch, time = x.shape[:2]
        if cache is not None and cache.lengths is not None and len(cache.lengths) != batch:
            raise InvalidInput(f"the cache holds {len(cache.lengths)} rows and {batch} are given: begin another cache")
        if attention_mask is None:
            mask = torch.ones(batch, time, dtype=torch.bool, device=x.device)
        elif attention_mask.dim() != 2 or attention_mask.shape[0] != batch or attention_mask.shape[1] < time:
            raise InvalidInput(f"attention_mask has shape {tuple(attention_mask.shape)}: give ({batch}, {time})")
        else:
            mask = attention_mask[:, -time:].bool()
        if cache is not None:
            return BlockContext(mask, cache.advance(mask), route=route)
        return BlockContext(mask, (mask.long().cumsum(1) - 1).clamp(min=0), route=route)


class LaminaForCausalLM(LaminaPreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """The trunk with a head that predicts the next token."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: LaminaConfig) -> None:
        super().__init__(config)
        self.model = LaminaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DecodingCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        shift_labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        route: Any = None,
        **_: Any,
    ) -> LaminaOutput:
        """``labels`` ``(batch, time)`` are the ids themselves (the next one is predicted), ``shift_labels`` what each
        position shall say; -100 asks nothing. In training the head is computed where something is asked alone, and
        there are no ``logits``: at a few questions a text it would otherwise be most of the work."""
        keeps = self.config.use_cache if use_cache is None else use_cache
        if past_key_values is None and keeps and not self.training:
            past_key_values = DecodingCache(self.config.num_hidden_layers)
        hidden, ctx = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, route)
        if labels is not None:
            shift_labels = F.pad(labels[:, 1:], (0, 1), value=_IGNORED)
        loss, aux = None, torch.stack(ctx.aux).sum() if ctx.aux else None
        if shift_labels is not None:
            asked = shift_labels != _IGNORED
            loss = F.cross_entropy(self.lm_head(hidden[asked]).float(), shift_labels[asked])
            loss = loss if aux is None else loss + aux
        logits = None
        if shift_labels is None or not self.training:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])
        return LaminaOutput(loss=loss, logits=logits, past_key_values=past_key_values, aux_loss=aux, stats=ctx.stats)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """No: what mixers keep is made in ``forward``."""
        return False


# So that transformers' own from_pretrained knows a saved one, wherever this module was imported.
AutoConfig.register(LaminaConfig.model_type, LaminaConfig, exist_ok=True)
AutoModelForCausalLM.register(LaminaConfig, LaminaForCausalLM, exist_ok=True)
