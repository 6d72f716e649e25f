"""DeciLM (model_type nemotron-nas) made of transformers' Llama layers, for tests: transformers has
no such class. Importing this registers it with AutoConfig and AutoModelForCausalLM. A layer's entry
in block_configs gives its KV heads and FFN width, or leaves out its attention or its MLP."""
import copy

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, **facts):
        """A null intermediate_size or num_key_value_heads is what published configs have."""
        super().__init__(**{k: v for k, v in facts.items() if v is not None})
        self.block_configs = block_configs

def ffn_width(ffn, hidden_size):
    """intermediate_size, or ffn_mult of two thirds of the hidden size, up to a multiple of 256."""
    if ffn.get("ffn_mult") is None:
        return ffn["intermediate_size"]
    width = int(2 * ffn["ffn_mult"] * hidden_size / 3)
    return (width + 255) // 256 * 256

class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        attention, ffn = (config.block_configs[layer][k] for k in ("attention", "ffn"))
        own = copy.copy(config)
        if not attention["no_op"]:
            own.num_key_value_heads = config.num_attention_heads // attention["n_heads_in_group"]
            self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            self.self_attn = LlamaAttention(own, layer)
        if not ffn["no_op"]:
            own.intermediate_size = ffn_width(ffn, config.hidden_size)
            self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            self.mlp = LlamaMLP(own)

    def forward(self, hidden_states, **more):
        if hasattr(self, "self_attn"):
            more = {k: v for k, v in more.items() if k != "past_key_values"}
            hidden_states = hidden_states + self.self_attn(
                hidden_states=self.input_layernorm(hidden_states), **more)[0]
        if hasattr(self, "mlp"):
            hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states

class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        self.model.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.post_init()

AutoConfig.register("nemotron-nas", DeciLMConfig)
AutoModelForCausalLM.register(DeciLMConfig, DeciLMForCausalLM)
