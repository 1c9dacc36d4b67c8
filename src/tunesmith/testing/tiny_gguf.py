"""The tiny model as a GGUF file, for tests of reading one."""

from pathlib import Path

import gguf
import numpy as np
from transformers import LlamaForCausalLM

from tunesmith.testing.tiny import CHATML, IM_END, PAD, SPECIAL_TOKENS, byte_tokenizer, tiny_model

MERGED = "Ġt"
"""The one merge of the file's tokenizer, id 259; all else stays bytes."""

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_gguf(path: Path, seed: int = 0, pre: str = "smollm") -> Path:
    """Write `tiny_model(seed)` to a GGUF file in float32, so that reading it loses nothing.

    Args:
        path: The file to write.
        seed: Of the model.
        pre: Value of `tokenizer.ggml.pre`.

    Returns:
        The path.
    """
    model = tiny_model(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    config = model.config
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, pre)
    for name, tensor in _tensors(model):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, pre: str) -> None:
    by_id = sorted(byte_tokenizer().get_vocab().items(), key=lambda pair: pair[1])
    tokens = [*(token for token, _ in by_id), MERGED]
    control = [3 if token in SPECIAL_TOKENS else 1 for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(control)
    writer.add_token_merges(["Ġ t"])
    writer.add_eos_token_id(IM_END)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _tensors(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray]]:
    """Tensors under llama.cpp's names; queries and keys in its order of rotary halves."""
    heads = {
        "attn_q": model.config.num_attention_heads,
        "attn_k": model.config.num_key_value_heads,
    }
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    found = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
    ]
    for layer in range(model.config.num_hidden_layers):
        for ours, theirs in _LAYER.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in heads:
                weight = _interleave(weight, heads[theirs])
            found.append((f"blk.{layer}.{theirs}.weight", weight))
    return found


def _interleave(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """From rotating halves (transformers) to rotating neighbours (llama.cpp), per head."""
    rows, columns = weight.shape
    halves = weight.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
