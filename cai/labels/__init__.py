"""How far labels can be trusted: who said what of which pair, whether they agree, and whether they are right."""
