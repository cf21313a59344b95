"""MemOS: who moves memories, who may touch them, and how they are let go."""
