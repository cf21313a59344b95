"""The parts of CMT (``lamina.activation.document_memory``): compressor, bank, reader, objective, training."""
