"""Learning what to write to memory: the parts of Mem-alpha (arXiv 2509.25911) below its front door.

``features`` what the policy sees, ``tools`` the typed memory it writes to, ``network`` the policy itself, ``grpo``
how it learns, ``language_model`` the same for a causal language model, ``report`` what it did to a real store.
"""
