"""How YAML becomes a frozen, checked model: reading, dotted overrides, hints for wrong keys.

This room knows no method, no model and no torch; it may import `errors` alone. The sections
themselves live with their owners and are put together in `recipe.py`.
"""
