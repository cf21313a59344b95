"""What the rules know of English; ``text/extraction.py``, ``update.py`` and ``time.py`` are built on it.

Reading order: ``sentences`` cuts a turn; ``clause`` finds subject, verb, tense and negation; ``third_person``
turns "I" into a name; ``families*`` are the pattern families that name an attribute and its value, ``readings``
turns their matches into claims, ``slots`` says which attributes hold one value and when two values clash.
``time_rules`` and ``time_grammar`` say what temporal expressions mean. ``lexicon``, ``verbs``, ``numbers``,
``entities``, ``calendar`` are closed word lists and small parsers. Another language would be another such folder.
"""
