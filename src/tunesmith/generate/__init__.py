"""Generation with a loaded model: token ids in, token ids out.

`generate.py` answers many prompts side by side, greedily; `stream.py` answers one, token by token.

May import `errors`, `config`, `runs`, `data` and `models`. The model is any causal language model
of transformers, wrapped by PEFT or not; nothing here knows text, tokenizers or templates.
"""
