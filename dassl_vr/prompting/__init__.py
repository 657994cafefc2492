"""Prompts of tokens, for text towers and vision transformers, as plain torch modules; nothing here knows the engine."""
