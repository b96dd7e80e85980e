"use strict";
// The browser of chains. Texts are data from models: they reach the page through textContent alone.
// `knownDiff` stands in diff.js, before this.
(() => {
  const at = (id) => document.getElementById(id);
  const list = at("list");
  if (!list) return;
  const index = JSON.parse(at("chain-index").textContent);
  const [query, principle, tag, label, change, found] = ["query", "principle", "tag", "label", "change", "found"].map(at);
  const [pager, first, previous, page, pages, next, last] = ["pager", "first", "previous", "page", "pages", "next", "last"].map(at);
  const PAGE = 25;
  const rows = []; // [turns, response, steps, tags, labels, scores, soft labels, changed, id]; see cai/report/chains.py
  const haystacks = []; // all that can be searched in a row, in lower case; made when it is first searched
  let matches = [];
  let shown = 0; // number of the page that is shown, from 0
  let words = [];

  const count = (n) => n.toLocaleString("en");
  const make = (name, style, text) => {
    const element = document.createElement(name);
    if (style) element.className = style;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // What is searched for stands out in whatever text it is found in.
  const marked = (text) => {
    if (!words.length) return [document.createTextNode(text)];
    const wanted = words.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
    return text.split(new RegExp(`(${wanted})`, "iu")).map((part, place) => (
      place % 2 ? make("mark", "", part) : document.createTextNode(part)));
  };
  // A text is a string, or [beginning, characters of the whole].
  const isWhole = (text) => typeof text === "string";
  const shownOf = (text) => (isWhole(text) ? text : text[0]);
  const rest = (text) => (isWhole(text) ? [] : [make("span", "clipped", `… ${count(text[1] - text[0].length)} more characters`)]);
  const said = (name, style, text) => {
    const element = make(name, `${style} said`.trim());
    element.append(...marked(shownOf(text)), ...rest(text));
    return element;
  };

  const lastAsked = ([turns]) => {
    const user = index.roles.findIndex(([name]) => name === "user");
    return turns.findLast(([role]) => role === user)?.[1] ?? "";
  };

  const turnLine = (role, text) => {
    const line = make("p", "turn");
    line.append(make("span", "role", role), said("span", "", text));
    return line;
  };

  const RUNS = { "+": () => make("ins"), "-": () => make("del"), "?": () => make("span", "unknown"), "=": () => document.createDocumentFragment() };
  const difference = (before, after) => {
    const text = make("span", "said");
    const runs = knownDiff(shownOf(before), shownOf(after), isWhole(before), isWhole(after));
    runs.forEach(([kind, part]) => {
      const run = RUNS[kind]();
      run.append(...marked(part));
      text.append(run);
    });
    text.append(...rest(after));
    if (runs.some(([kind]) => kind === "?")) text.append(" ", make("span", "clipped", "(grey: compared with nothing, for the text before is clipped)"));
    else if (!runs.some(([kind]) => kind !== "=")) text.append(" ", make("span", "clipped", "(the change is in what is clipped)"));
    return text;
  };

  // `response` or `revision 1`, with what was read of it, and its score.
  const head = (title, row, place) => {
    const [, , , , labels, scores] = row;
    const line = make("h4", "", `${title} `);
    if (labels[place] !== undefined) line.append(make("span", "tag", index.labels[labels[place]][0]), " ");
    if (typeof scores[place] === "number") line.append(make("span", "score", `score ${scores[place].toFixed(2)}`), " ");
    return line;
  };

  const body = (row) => {
    const [turns, response, steps, , , , softLabels, , id] = row;
    const told = make("div", "turns");
    if (turns.length > 1) turns.forEach(([role, text]) => told.append(turnLine(index.roles[role][0], text)));
    const made = make("ol", "steps");
    const start = make("li");
    start.append(head("response", row, 0), said("p", "", response));
    made.append(start);
    let text = response;
    steps.forEach(([id, critique, revision], place) => {
      const step = make("li");
      const title = head(`revision ${place + 1}`, row, place + 1);
      title.append(make("code", "", index.principles[id][0]));
      const written = revision === 0 ? make("p", "muted", "left as it was") : make("p");
      if (revision !== 0) {
        written.append(difference(text, revision));
        text = revision;
      }
      step.append(title, said("p", "critique", critique), written);
      made.append(step);
    });
    const parts = [told, made];
    if (softLabels.length) {
      const pairs = softLabels.map((soft) => soft.toFixed(2)).join(", ");
      parts.push(make("p", "muted", `preference pairs of this prompt, P(chosen is better): ${pairs}`));
    }
    if (id) {
      const line = make("p", "muted", `The texts of response ${id} are clipped here. The whole: `);
      line.append(make("code", "command", index.whole.replace("ID", id)));
      parts.push(line);
    }
    return parts;
  };

  const item = (row) => {
    const [, , , tags, labels] = row;
    const details = make("details", "item");
    const summary = make("summary");
    const meta = make("span", "meta");
    meta.append(...tags.map((each) => make("span", "tag", index.tags[each][0])));
    const [before, after] = [labels[0], labels.at(-1)].map((each) => index.labels[each]?.[0]);
    if (before !== undefined) meta.append(make("span", "", before === after ? before : `${before} → ${after}`));
    meta.append(make("span", "value", row[7] ? "changed" : "same"));
    const line = make("span", "line");
    const asked = lastAsked(row);
    line.append(...marked(shownOf(asked)), ...rest(asked));
    summary.append(line, meta);
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(...body(row));
    });
    return details;
  };

  const haystack = ([turns, response, steps, tags, labels]) => [
    ...turns.map((turn) => shownOf(turn[1])), shownOf(response),
    ...steps.flatMap(([id, critique, revision]) => [index.principles[id][0], shownOf(critique), shownOf(revision || "")]),
    ...tags.map((each) => index.tags[each][0]), ...labels.map((each) => index.labels[each][0]),
  ].join("\n").toLowerCase();

  const isChosen = (select, value) => select.value === "" || Number(select.value) === value;
  const isMatch = (place) => {
    const row = rows[place];
    const [, , steps, tags, labels] = row;
    if (change.value && (change.value === "changed") !== Boolean(row[7])) return false;
    if (tag.value && !tags.includes(Number(tag.value))) return false;
    if (!isChosen(label, labels.at(-1))) return false;
    if (principle.value && !steps.some(([id]) => isChosen(principle, id))) return false;
    if (!words.length) return true;
    haystacks[place] ??= haystack(row);
    return words.every((word) => haystacks[place].includes(word));
  };

  const tell = () => {
    const reading = rows.length < index.n ? `; reading, ${count(rows.length)} so far` : "";
    found.textContent = `${count(matches.length)} of ${count(index.n)} chains${reading}`;
    const nPages = Math.max(1, Math.ceil(matches.length / PAGE));
    pager.hidden = nPages === 1;
    pages.textContent = `of ${count(nPages)}`;
    page.max = nPages;
    page.value = shown + 1;
    // Not `disabled`: the keyboard's place would be lost at either end.
    [first, previous].forEach((button) => button.setAttribute("aria-disabled", shown === 0));
    [next, last].forEach((button) => button.setAttribute("aria-disabled", shown >= nPages - 1));
  };

  const show = (number) => {
    shown = Math.max(0, Math.min(number, Math.ceil(matches.length / PAGE) - 1));
    list.replaceChildren(...matches.slice(shown * PAGE, (shown + 1) * PAGE).map((place) => item(rows[place])));
    tell();
  };

  const search = () => {
    words = [...query.value.toLowerCase().matchAll(/"([^"]+)"|[^\s"]+/g)].map((each) => each[1] ?? each[0]);
    matches = rows.map((_, place) => place).filter(isMatch);
    show(0);
  };

  const take = (more) => {
    const isRoom = matches.length < (shown + 1) * PAGE;
    more.forEach((row) => {
      if (isMatch(rows.push(row) - 1)) matches.push(rows.length - 1);
    });
    if (isRoom) show(shown);
    else tell();
  };

  // 7 bits a character, three of them beyond ASCII; see cai/report/coding.py.
  const decoded = (text) => {
    const bytes = new Uint8Array(Math.floor((text.length * 7) / 8));
    let [held, n, at] = [0, 0, 0];
    for (let place = 0; place < text.length; place += 1) {
      const code = text.charCodeAt(place);
      held = ((held << 7) | (code < 128 ? code : [0, 13, 60][code - 161])) & 0x7fff;
      n += 7;
      if (n >= 8) {
        n -= 8;
        bytes[at] = held >> n;
        at += 1;
      }
    }
    return bytes;
  };

  const inflate = async (packed) => {
    const bytes = decoded(packed);
    const stream = new DecompressionStream("gzip");
    const writer = stream.writable.getWriter();
    Promise.all([writer.write(bytes), writer.close()]).catch(() => {}); // whoever reads is told too
    const reader = stream.readable.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += decoder.decode(part.value, { stream: true });
    }
    return JSON.parse(text);
  };

  // What a search reads, made while nobody waits for it; a search that comes sooner makes its own.
  const prepare = (place = 0) => window.requestIdleCallback?.((idle) => {
    let next = place;
    while (next < rows.length && idle.timeRemaining() > 1) {
      haystacks[next] ??= haystack(rows[next]);
      next += 1;
    }
    if (next < rows.length) prepare(next);
  });

  const blocks = () => document.querySelectorAll("script.chains");
  const parsed = () => new Promise((done) => {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done);
    else done();
  });
  const unpack = async (block) => {
    take(await inflate(block.textContent));
    block.remove();
  };

  // The first block stands before this script and is shown while the browser still reads the others.
  const load = async () => {
    for (const block of blocks()) await unpack(block);
    if (list.firstElementChild) list.firstElementChild.open = true;
    await parsed();
    let since = performance.now();
    for (const block of blocks()) {
      await unpack(block);
      if (performance.now() - since > 50) { // let the page draw, and hear the keys
        await new Promise((done) => { setTimeout(done); });
        since = performance.now();
      }
    }
    list.setAttribute("aria-busy", "false");
    tell();
    prepare();
  };

  const offer = (select, names) => names.forEach(([name, n], place) => {
    if (!n) return;
    const option = make("option", "", `${name} (${count(n)})`);
    option.value = place;
    select.append(option);
  });

  offer(principle, index.principles);
  offer(tag, index.tags);
  offer(label, index.labels);
  label.closest("label").hidden = !index.labels.length;
  let waiting;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  [principle, tag, label, change].forEach((control) => control.addEventListener("change", search));
  at("filter").addEventListener("submit", (event) => event.preventDefault());
  const turn = (button, number) => button.addEventListener("click", () => show(number()));
  turn(first, () => 0);
  turn(previous, () => shown - 1);
  turn(next, () => shown + 1);
  turn(last, () => Infinity);
  page.addEventListener("change", () => show((Number.parseInt(page.value, 10) || 1) - 1));
  load().catch((error) => {
    found.textContent = `The chains could not be unpacked here (${error.message}); a browser of 2023 or later can.`;
  });
})();
