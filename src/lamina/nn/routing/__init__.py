"""What MoM is made of: tokens sent to some of several memories, and models grown from one memory to several."""
