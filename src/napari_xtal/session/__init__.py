"""The user's truth: peaks, labels, parameters and view of a run, kept in a folder.

`store.Session` is the way in; `editing` holds the edits, `actions` what can be undone,
`journal` their record on disk.
"""
