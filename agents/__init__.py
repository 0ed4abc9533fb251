"""The language model: prompts and parsing, chat formats, engines, the policy."""
