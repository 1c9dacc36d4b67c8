"""What several adapters share; no choices of the recipe themselves."""
