"""Comparing planners: what is compared, what was played, what it says, and how it is shown.

`cells` is what is compared, `stage` finds out who can play it, `store` keeps the episodes, `statistics` reads them,
`picture` and `page` show them.
"""
