"""The site: pages of Markdown, with the evidence put in by reference when they are built.

The extensions (`evidence`, `maths`) know Markdown and the recorded evidence, and nothing of
MkDocs: a page can be rendered, and tested, without a site. What only a site needs (navigation,
notebooks, language links) is in `hooks`.
"""
