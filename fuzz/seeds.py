"""What fuzzing starts from: a few small valid inputs of each target."""

import json
import struct
import tempfile
from pathlib import Path

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CALL = {"name": "f", "arguments": '{"x": 1}'}
ROWS = (
    {"messages": TURNS},
    {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"instruction": "i", "input": "x", "output": "o", "history": [["q", "a"]]},
    {"prompt": "p", "completion": "\u2028", "tools": "[]"},
    {"text": "t"},
)
TEMPLATES = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{%- set ns = namespace(x='') -%}{%- for m in messages -%}{%- if loop.last -%}"
    "{{ m.content | trim | tojson }}<|im_end|>{%- else -%}{{ m.content.split('x')[-1] }}"
    "{%- endif -%}{%- endfor -%}",
    "{{ raise_exception('no') if messages[0].role == 'system' else range(9)|list }}",
)


def seeds(target: str) -> list[bytes]:
    """The inputs of a target by its name."""
    if target == "template":
        return [text.encode() for text in TEMPLATES]
    if target in ("jsonl", "json_array"):
        lines = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
        whole = b"[" + b",\n".join(lines) + b"]" if target == "json_array" else b"\n".join(lines)
        return [*lines, whole, b"\xef\xbb\xbf" + lines[0], lines[0] + b"\r\n"]
    return [_safetensors()] if target == "safetensors_header" else [_gguf()]


def _safetensors() -> bytes:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(22)


def _gguf() -> bytes:
    import gguf
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint32("llama.block_count", 1)
        writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
        writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()
