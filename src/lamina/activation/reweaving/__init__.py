"""Parts of Contextual Memory Reweaving; ``lamina.activation.state_reweaving`` puts them into a model."""
