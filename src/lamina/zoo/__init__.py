"""Small and packaged models: where their weights come from, and how they are loaded without a network.

``catalog`` names and verifies weights, ``models`` turns a name or path into a folder of weights,
``minilm`` is the sentence encoder, ``smollm2`` unpacks the small chat model.
"""

from lamina.zoo.catalog import CATALOG, Entry, cache_dir, packaged

__all__ = ["CATALOG", "Entry", "cache_dir", "packaged"]
