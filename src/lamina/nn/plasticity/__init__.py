"""What Synaptic Resonance is made of: the trace of the context, and weights that are rewritten while reading."""
