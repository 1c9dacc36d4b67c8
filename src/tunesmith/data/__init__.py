"""Data: files to rows, rows to tokens, tokens to batches; and the checks that all of it is right.

May import `errors` and `config`. A new row shape is a new file in `shapes/`. In order of use:
`sources` (records of a file), `shapes` and `reading` (what they say), `template` (their tokens),
`store` (on disk), `contract` (checked), `order` (which when), `collate` and `loader` (batches).
"""
