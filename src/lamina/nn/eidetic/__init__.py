"""What B'MOJO is made of: which tokens are kept whole, where they stand, and one softmax over all that is seen."""
