"""Order, retries, names and artifacts, as Prefect flows. No method and no rows."""
