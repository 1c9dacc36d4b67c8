"""Coverage-guided fuzzing of whatever reads others' bytes: `make fuzz`. Not in the package."""
