"""Training steps, each a command over Parquet files.

With the transformers engine and the small world, the only home of torch and TRL.
"""
