"""The dashboard: pages for a person, rendered here and made lively by htmx. One file a page, its template beside it.

``pages.py`` lists the pages, ``visitor.py`` knows who looks at them, ``shell.py`` renders them. Nothing is kept between
two requests, so that any worker answers any of them; every page works without scripts too.
"""
