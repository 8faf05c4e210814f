//! Reading specification files: YAML, TOML or JSON, many documents in one, each fault with its place.
