"""The scripts that train. Each runs by its path in its own environment, without this package."""
