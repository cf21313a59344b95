"""Where things stand in a drawing: pure functions from sizes, links and times to coordinates in pixels."""
