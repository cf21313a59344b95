"""Parts of the entity graph: which names are one entity, what a fact connects, prompts, files, paths of a question."""
