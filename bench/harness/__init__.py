"""The runner of the bench: bench/README.md says how its parts fit together."""
