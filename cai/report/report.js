"use strict";
// The browser of chains. Texts are data from models: they reach the page through textContent alone.
(() => {
  const list = document.getElementById("list");
  if (!list) return;
  const chains = JSON.parse(document.getElementById("chain-data").textContent);
  const at = (id) => document.getElementById(id);
  const [query, principle, tag, changed, more, found] = ["query", "principle", "tag", "changed", "more", "found"].map(at);
  const PAGE = 15;
  let matches = [];

  const make = (name, style, text) => {
    const element = document.createElement(name);
    if (style) element.className = style;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const lastAsked = (chain) => {
    const asked = chain.prompt.filter(([role]) => role === "user");
    return asked.length ? asked[asked.length - 1][1] : "";
  };

  const haystacks = new Array(chains.length);
  const haystack = (place) => {
    if (haystacks[place] === undefined) {
      const { prompt, response, steps, tags } = chains[place];
      const said = steps.map(([id, critique, runs]) => `${id} ${critique} ${runs.map((run) => run[1]).join("")}`);
      haystacks[place] = [...prompt.map((turn) => turn[1]), response, ...said, ...tags].join("\n").toLowerCase();
    }
    return haystacks[place];
  };

  const offer = (select, values) => {
    [...new Set(values)].sort().forEach((value) => {
      const option = make("option", "", value);
      option.value = value;
      select.append(option);
    });
  };

  const tags = (names) => names.map((name) => make("span", "tag", name));

  const turn = (role, text) => {
    const line = make("p", "turn");
    line.append(make("span", "role", role), make("span", "said", text));
    return line;
  };

  const difference = (runs) => {
    const text = make("span", "said");
    runs.forEach(([change, words]) => text.append(
      change === "=" ? document.createTextNode(words) : make(change === "+" ? "ins" : "del", "", words),
    ));
    return text;
  };

  const body = (chain) => {
    const turns = make("div", "turns");
    if (chain.prompt.length > 1) chain.prompt.forEach(([role, text]) => turns.append(turn(role, text)));
    const steps = make("ol", "steps");
    const first = make("li");
    first.append(make("h4", "", "response"), make("p", "said", chain.response));
    steps.append(first);
    chain.steps.forEach(([id, critique, runs], place) => {
      const step = make("li");
      const head = make("h4", "", `revision ${place + 1} `);
      head.append(make("code", "", id));
      const same = runs.every(([change]) => change === "=");
      const revision = make("p");
      revision.append(difference(runs));
      step.append(head, make("p", "critique said", critique), revision);
      if (same) step.append(make("p", "muted", "left as it was"));
      steps.append(step);
    });
    return [turns, steps];
  };

  const item = (chain) => {
    const details = make("details", "item");
    const summary = make("summary");
    const meta = make("span", "meta");
    meta.append(...tags(chain.tags), make("span", "value", chain.changed ? "changed" : "same"));
    summary.append(make("span", "line", lastAsked(chain)), meta);
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(...body(chain));
    });
    return details;
  };

  const show = () => {
    const start = list.childElementCount;
    list.append(...matches.slice(start, start + PAGE).map((place) => item(chains[place])));
    more.hidden = list.childElementCount >= matches.length;
  };

  const search = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    matches = [];
    chains.forEach((chain, place) => {
      if (changed.checked && !chain.changed) return;
      if (tag.value && !chain.tags.includes(tag.value)) return;
      if (principle.value && !chain.steps.some(([id]) => id === principle.value)) return;
      if (words.length && !words.every((word) => haystack(place).includes(word))) return;
      matches.push(place);
    });
    found.textContent = `${matches.length.toLocaleString("en")} of ${chains.length.toLocaleString("en")} chains`;
    list.replaceChildren();
    show();
  };

  offer(principle, chains.flatMap((chain) => chain.steps.map(([id]) => id)));
  offer(tag, chains.flatMap((chain) => chain.tags));
  let waiting;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  [principle, tag, changed].forEach((control) => control.addEventListener("change", search));
  at("filter").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const start = list.childElementCount;
    show();
    list.children[start]?.querySelector("summary").focus();
  });
  search();
  if (list.firstElementChild) list.firstElementChild.open = true;
})();
