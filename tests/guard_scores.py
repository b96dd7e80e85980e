"""What a guard has scored, written by hand: what the tests of its decisions and of guarded runs share."""

from cai.config import GuardConfig

GUARD = GuardConfig(every=5, patience=3, stall=None)


def row(step, gold=None, sem=0.02, proxy=0.0, kl=1.0, entropy=1.0, repetition=0.0):
    scores = {} if gold is None else {"gold/mean": gold, "gold/sem": sem, "proxy/mean": proxy, "proxy/sem": 0.1}
    return {"step": step, "guard/kl": kl, "guard/entropy": entropy, "guard/repetition": repetition, **scores}


def history(*golds, sem=0.02):
    return [row(5 * i, value, sem, proxy=float(i)) for i, value in enumerate(golds)]
