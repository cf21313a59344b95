"""The parts of LongMem (``lamina.activation.side_retrieval``): the bank, the frozen reader, the side network."""
