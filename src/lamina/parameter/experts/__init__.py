"""What MemLoRA's operation experts are made from: traces, cleaning, training, decoding, teachers, prompts."""
