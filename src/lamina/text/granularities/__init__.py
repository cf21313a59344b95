"""The parts of MemGAS (``lamina.text.granularity``): accept sets, the association graph, the router, its walk."""
