"""What a run will cost, before anything runs: the run's own code over a sample of its prompts, with a meter on it.

`meter` counts, `sources` answer in the model's place, `stages` ask, `predict` makes `lines` of what is `given`, `text`
says them. The command is `cai plan`; what a home knows of earlier runs comes from `flows/planning.py`.
"""
