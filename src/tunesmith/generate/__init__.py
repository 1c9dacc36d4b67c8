"""Generation with a loaded model: token ids in, token ids out.

`generate.py` answers many prompts side by side, greedily; `answers.py` draws several answers to
each, with their log-probabilities; `stream.py` answers one, token by token. All stand on a session
(`session.py`, or `padded.py` for models whose attention goes its own way; `detect.py` finds out
which); `loop.py` lets prompts join and finished answers go, `sampling.py` draws.

May import `errors`, `config`, `runs`, `data` and `models`. The model is any causal language model
of transformers, wrapped by PEFT or not; nothing here knows text, tokenizers or templates.
"""
