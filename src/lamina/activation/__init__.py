"""Memory as activations: key-value caches that are kept, moved and read again by the model that made them."""
