"""The names under which claims and figures stand in a notebook's outputs.

They are apart, so that who only reads a record loads neither torch nor matplotlib.
"""

CLAIM = "application/vnd.qa-lab.claim+json"
FIGURE = "application/vnd.qa-lab.figure+json"
