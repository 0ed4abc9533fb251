"""The language model: prompts and parsing, chat formats, the policy, generation engines."""
