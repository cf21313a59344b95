"""What several rooms do to tensors, written once. Each file imports torch where it is used."""
