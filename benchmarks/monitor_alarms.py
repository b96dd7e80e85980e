"""How often monitoring raises an alarm where nothing has changed, and how often it finds what was planted.

python -m benchmarks.monitor_alarms [--windows 1000] [--prompts 200] [--workers 2]

Simulated traffic: prompts of a few words, up to three responses each, some of which refuse, hedge or stammer, a score
that depends on the prompt and on chance; so each of the seven measures may raise an alarm. Fails where more than 5 % of
the windows without any change raise one (above what chance gives in 1 of 100), at the size asked for or at the smallest
that is compared.
"""

import argparse
import math
import os
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from cai.intervals import wilson
from cai.monitoring.compare import ALPHA, FEWEST, Side, compare
from cai.monitoring.exchanges import Exchange
from cai.records import Message, Prompt

WORDS = [f"word{i}" for i in range(300)]
SAID = ("I cannot help with that.", "It depends on many things.", "so it is so it is so it is")
"""What a refusal, a hedge and a stammer begin with, in this order; in shares of responses that differ by prompt."""
PLANTED = {
    "nothing": {},
    "a tenth of the words are new": {"new": 0.1},
    "responses 20 % longer": {"longer": 0.2},
    "scores lower by 0.3 standard deviations": {"score": -0.3},
    "refuses 15 points more": {"refuses": 0.15},
}
SHARES = (0.15, 0.2, 0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=200, help="on each side")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    print("| planted | prompts | windows | with an alarm | 95 % interval |\n|---|---|---|---|---|", flush=True)
    too_many = False
    with ProcessPoolExecutor(options.workers) as pool:
        for size, name in [*((options.prompts, name) for name in PLANTED), (FEWEST, "nothing")]:
            n = options.windows if name == "nothing" else max(1, options.windows // 10)
            raised = list(pool.map(partial(alarms, size, PLANTED[name]), range(n), chunksize=5))
            share = sum(map(bool, raised)) / n
            low, high = wilson(share, n)
            print(f"| {name} | {size} | {n} | {share:.1%} | {low:.1%} – {high:.1%} |", flush=True)
            if name == "nothing":
                too_many |= share * n > ALPHA * n + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) * n)
                counts = Counter(metric for window in raised for metric in window)
                print(f"  by measure: {dict(counts.most_common())}", file=sys.stderr)
    return int(too_many)


def alarms(n: int, planted: dict[str, float], seed: int) -> list[str]:
    rng = random.Random(seed)
    return [found.metric for found in compare(traffic(rng, n, {}), traffic(rng, n, planted), seed=seed).alarms]


def traffic(rng: random.Random, n: int, planted: dict[str, float]) -> Side:
    exchanges, scores = [], {}
    words = [f"new{word}" if i < planted.get("new", 0) * len(WORDS) else word for i, word in enumerate(WORDS)]
    for _ in range(n):
        made = Prompt.make([Message("user", " ".join(rng.choices(words, k=rng.randint(4, 20))))], "simulated")
        own = rng.gauss(0, 1)
        inclined = [min(1.0, share * rng.expovariate(1)) for share in SHARES]
        inclined[0] = min(1.0, inclined[0] + planted.get("refuses", 0))
        for _ in range(rng.randint(1, 3)):
            length = round(rng.lognormvariate(3, 0.5) * (1 + planted.get("longer", 0)))
            opens = [phrase for phrase, share in zip(SAID, inclined, strict=True) if rng.random() < share]
            text = " ".join([*opens, *rng.choices(WORDS, k=1 + length)])
            each = Exchange.make(made.prompt_id, made.messages, text)
            exchanges.append(each)
            scores[each.exchange_id] = (own + rng.gauss(0, 1)) / math.sqrt(2) + planted.get("score", 0)
    return Side(exchanges, {"judge": scores})


if __name__ == "__main__":
    sys.exit(main())
