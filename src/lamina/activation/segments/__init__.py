"""The parts of HMT (``lamina.activation.segment_memory``): streams cut into segments, the state between them."""
