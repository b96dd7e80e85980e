"""Rows on disk: Parquet under a Delta log, read with DuckDB. Imports `cai`, never `flows`."""
