"""What a sampled response earns: reward models, verifiers, the judge, penalties; weighted, each kept apart."""
