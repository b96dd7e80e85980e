"""A local page on which one person labels pairs, by keyboard, blind to where the responses come from.

`queue.py` decides what comes when (pure), `sitting.py` keeps what was said, `app.py` shows it and takes the answers,
`serve.py` opens the port. Rows are read and written by `storage/labelling.py`.

    cai labels page --run RUN --annotator ada
"""
