"""Lamina inside other frameworks: thin adapters, one file each. None is imported by anything else of Lamina.

``langgraph.LaminaStore``, ``langchain.LaminaRetriever``, ``llamaindex.LaminaMemory``: over a ``Memory`` of this process
or a ``Client`` of a service. Each needs the framework it is for.
"""
