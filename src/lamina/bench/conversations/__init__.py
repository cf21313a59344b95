"""Long conversations with questions whose evidence is known turn by turn: data, metrics, and what runs on them."""
