"""From a question and ranked passages to the tokens that a model reads: windows, prompts, chat template."""
