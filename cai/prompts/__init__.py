"""Prompts as data: written by a model, tried on a policy. Pure, but for the engines that are given."""
