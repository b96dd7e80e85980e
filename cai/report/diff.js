// A word diff of two texts, as runs [change, text]: "=" kept, "-" removed, "+" added. The kept and removed runs spell
// the first text, the kept and added ones the second; the same as diff.py makes for pages that run no script. Blocks as
// Ratcliff and Obershelp (1988) find them: the longest common run of words first, then the longest on either side.
const wordDiff = (() => {
  const MOST_WORDS = 4000; // it is quadratic at worst: longer texts are shown as replaced whole
  // A word carries the space before it, so that an inserted word is one token and leaves its neighbours alone.
  const WORD = /\s*[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*|\s*\S|\s+/gu;

  const longest = (old, places, [i1, i2, j1, j2]) => {
    let best = [i1, j1, 0];
    let ending = new Map(); // place in the new text → length of the common run that ends there
    for (let i = i1; i < i2; i += 1) {
      const next = new Map();
      for (const j of places.get(old[i]) ?? []) {
        if (j < j1) continue;
        if (j >= j2) break;
        const length = (ending.get(j - 1) ?? 0) + 1;
        next.set(j, length);
        if (length > best[2]) best = [i - length + 1, j - length + 1, length];
      }
      ending = next;
    }
    return best;
  };

  const compared = (old, fresh) => {
    const places = new Map();
    fresh.forEach((word, j) => {
      if (!places.has(word)) places.set(word, []);
      places.get(word).push(j);
    });
    const runs = [];
    const open = [[0, old.length, 0, fresh.length]];
    while (open.length) {
      const span = open.pop();
      if (typeof span[0] === "string") {
        runs.push(span);
        continue;
      }
      const [i1, i2, j1, j2] = span;
      const [i, j, length] = longest(old, places, span);
      if (length) {
        const kept = ["=", old.slice(i, i + length).join("")];
        open.push([i + length, i2, j + length, j2], kept, [i1, i, j1, j]);
      } else runs.push(["-", old.slice(i1, i2).join("")], ["+", fresh.slice(j1, j2).join("")]);
    }
    return runs;
  };

  // A kept comma between two changes is folded into them: a rewritten sentence reads as one change, not as confetti.
  const isIsland = (runs, place) => runs[place][0] === "=" && !/[\p{L}\p{N}]/u.test(runs[place][1])
    && place > 0 && place < runs.length - 1;

  const joined = (runs) => {
    const made = [];
    const held = { "-": "", "+": "", "=": "" };
    const flush = (changes) => [...changes].forEach((change) => {
      if (held[change]) made.push([change, held[change]]);
      held[change] = "";
    });
    for (const [change, text] of runs) {
      if (!text) continue;
      flush(change === "=" ? "-+" : "=");
      held[change] += text;
    }
    flush("=-+");
    return made;
  };

  return (before, after) => {
    if (before === after) return before ? [["=", before]] : [];
    const old = before.match(WORD) ?? [];
    const fresh = after.match(WORD) ?? [];
    if (old.length + fresh.length > MOST_WORDS) return joined([["-", before], ["+", after]]);
    const runs = joined(compared(old, fresh));
    return joined(runs.flatMap((run, place) => (isIsland(runs, place) ? [["-", run[1]], ["+", run[1]]] : [run])));
  };
})();

// What is known of the change where a text is only the beginning of a longer one. Up to the last words that both have,
// the runs are a way from one to the other. After them, a word of the old text may stand in the part of the new that is
// missing, so it is not called removed; a word of the new may stand in the missing part of the old: "?", not added.
const knownDiff = (before, after, isWholeBefore, isWholeAfter) => {
  const runs = wordDiff(before, after);
  const end = runs.findLastIndex(([change]) => change === "=") + 1;
  const last = runs.slice(end).filter(([change]) => change === "+" || isWholeAfter);
  return [...runs.slice(0, end), ...last.map(([change, text]) => [change === "+" && !isWholeBefore ? "?" : change, text])];
};
