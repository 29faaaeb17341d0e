"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const app = document.getElementById("app");
  const PAGE_SIZE = 20;
  const EVEN = 1e-9; // scores closer than this are equal
  const LETTERS = ["A", "B"];
  const two = data.runs.length === 2;
  const choice = data.kind === "choice";

  // Texts of the data are always set as text, never as HTML.
  function el(name, properties, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties || {})) {
      if (value === undefined || value === null) continue;
      if (key === "class") node.className = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key in node && typeof value !== "string") node[key] = value;
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  const number = (value, digits = 1) =>
    value === null || value === undefined ? "\u2013" : value.toFixed(digits).replace("-", "\u2212");
  const signed = (value) => (value > 0 ? "+" : "") + number(Math.abs(value) < 0.05 ? 0 : value);
  const counted = (value) => value.toLocaleString("en");
  const badge = (run) => (two ? el("span", { class: "badge " + "ab"[run] }, LETTERS[run]) : null);

  // ---- state, kept in the address so that a view can be linked to
  const state = { show: "all", metric: 0, sort: "order", kind: "", find: "", page: 1 };
  function readAddress() {
    const held = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    const metric = data.metrics.findIndex((one) => one.name === held.get("metric"));
    state.metric = Math.max(0, metric);
    state.show = filters().some((one) => one.key === held.get("show")) ? held.get("show") : "all";
    state.sort = sorts().some((one) => one[0] === held.get("sort")) ? held.get("sort") : "order";
    state.kind = kinds.includes(held.get("kind")) ? held.get("kind") : "";
    state.find = held.get("find") || "";
    state.page = Math.max(1, parseInt(held.get("page"), 10) || 1);
  }
  function writeAddress() {
    const held = new URLSearchParams();
    if (state.show !== "all") held.set("show", state.show);
    if (state.metric) held.set("metric", data.metrics[state.metric].name);
    if (state.sort !== "order") held.set("sort", state.sort);
    if (state.kind) held.set("kind", state.kind);
    if (state.find) held.set("find", state.find);
    if (state.page > 1) held.set("page", state.page);
    const text = held.toString();
    try {
      history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
    } catch (error) {
      // Some viewers forbid it for local files; only the link is lost.
    }
  }

  // ---- what an item is under the chosen score
  const kinds = [...new Set(data.items.map((item) => item.kind).filter(Boolean))].sort();
  const score = (item, run) => (data.metrics.length ? item.scores[run][state.metric] : null);
  const unparsed = (item) =>
    (item.parts || [item]).some((part) => part.answers.some((one) => one && one.unparsed));
  const gain = (item) => {
    const [first, second] = [score(item, 0), score(item, 1)];
    return first === null || second === null ? null : second - first;
  };
  let middle = 0;
  function findMiddle() {
    const held = data.items.map((item) => score(item, 0)).filter((one) => one !== null);
    held.sort((left, right) => left - right);
    middle = held.length ? held[Math.floor(held.length / 2)] : 0;
  }
  function filters() {
    const all = { key: "all", title: "All", holds: () => true };
    const odd = { key: "unparsed", title: choice ? "Unparsed" : "Empty", holds: unparsed };
    const known = (test) => (item) => {
      const value = two ? gain(item) : score(item, 0);
      return value !== null && test(value);
    };
    if (two) {
      return [
        all,
        { key: "wins", title: "B wins", holds: known((value) => value > EVEN) },
        { key: "losses", title: "A wins", holds: known((value) => value < -EVEN) },
        { key: "ties", title: "Ties", holds: known((value) => Math.abs(value) <= EVEN) },
        odd,
      ];
    }
    if (choice) {
      return [
        all,
        { key: "right", title: "Right", holds: known((value) => value > 1 - EVEN) },
        { key: "wrong", title: "Wrong", holds: known((value) => value <= 1 - EVEN) },
        odd,
      ];
    }
    return [
      all,
      { key: "upper", title: "Upper half", holds: known((value) => value >= middle) },
      { key: "lower", title: "Lower half", holds: known((value) => value < middle) },
      odd,
    ];
  }
  function sorts() {
    const runs = two ? ["A", "B"] : [""];
    const list = [["order", "In the order of the benchmark"]];
    if (two) list.push(["gain", "B \u2212 A, largest first"], ["loss", "B \u2212 A, smallest first"]);
    runs.forEach((letter, run) => {
      const name = letter ? "Score of " + letter : "Score";
      list.push(["high" + run, name + ", highest first"], ["low" + run, name + ", lowest first"]);
    });
    return list;
  }
  function sorted(items) {
    if (state.sort === "order") return items;
    const down = state.sort === "gain" || state.sort.startsWith("high");
    const run = Number(state.sort.slice(-1));
    const key = (item) => (/^(gain|loss)$/.test(state.sort) ? gain(item) : score(item, run));
    return items
      .map((item, place) => [key(item), place, item])
      .sort(([left, before], [right, after]) => {
        if (left === null || right === null) return (left === null) - (right === null) || before - after;
        return (down ? right - left : left - right) || before - after;
      })
      .map((entry) => entry[2]);
  }
  const haystacks = new Map();
  function haystack(item) {
    if (!haystacks.has(item)) {
      const texts = [item.id, item.kind, ...(item.references || [])];
      for (const part of item.parts || [item]) {
        texts.push(part.id, part.question || "", ...(part.options || []).flat());
        texts.push(...part.answers.map((one) => (one ? one.text : "")));
      }
      haystacks.set(item, texts.join("\n").normalize("NFC").toLowerCase());
    }
    return haystacks.get(item);
  }
  function chosen() {
    const words = state.find.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
    const test = filters().find((one) => one.key === state.show).holds;
    return data.items.filter(
      (item) =>
        test(item) &&
        (!state.kind || item.kind === state.kind) &&
        words.every((word) => haystack(item).includes(word)),
    );
  }

  // ---- one item
  function figure(index, label) {
    const picture = index === null ? null : data.pictures[index];
    if (!picture || picture.missing) {
      const why = !picture
        ? "no image named"
        : { absent: "not on this machine", unreadable: "not readable" }[picture.missing] || "left out";
      const name = picture ? picture.name + ": " : "";
      return el("figure", {}, el("div", { class: "blank" }, el("span", {}, name, why)));
    }
    return el(
      "figure",
      {},
      el("img", {
        src: document.getElementById("p" + index).textContent,
        alt: label + " (" + picture.name + ")",
        width: String(picture.width),
        height: String(picture.height),
      }),
      el("figcaption", {}, el("bdi", {}, picture.name)),
    );
  }
  function text(words, name = "p") {
    const long = words.length > 600;
    const node = el(name, { class: "text" + (long ? " long" : ""), dir: "auto" }, words || "(empty)");
    if (!long) return node;
    const more = el("button", { type: "button", "aria-expanded": "false", onclick: toggle }, "Show all");
    function toggle() {
      const open = !node.classList.toggle("long");
      more.setAttribute("aria-expanded", String(open));
      more.textContent = open ? "Show less" : "Show all";
    }
    return el("div", {}, node, more);
  }
  const who = (run) => (two ? el("span", { class: "hidden" }, LETTERS[run] + ": ") : null);
  function prompt(answers) {
    const shown = [...new Set(answers.map((one) => (one ? one.prompt : null)))].filter(
      (one) => one !== null && one !== undefined,
    );
    if (!shown.length) return null;
    return el(
      "details",
      { class: "prompt" },
      el("summary", {}, "Prompt"),
      ...shown.map((one) => el("pre", { dir: "auto" }, data.prompts[one])),
    );
  }
  function points(item) {
    if (!data.metrics.length) return null;
    const heads = data.metrics.map((metric, place) =>
      el("th", { scope: "col", class: place === state.metric ? "chosen" : null }, metric.title),
    );
    const rows = item.scores.map((values, run) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, badge(run) || "this item"),
        ...values.map((value, place) => {
          const other = two ? item.scores[1 - run][place] : null;
          const best = value !== null && other !== null && value > other + EVEN;
          return el("td", { class: best ? "best" : null }, number(value));
        }),
      ),
    );
    return el(
      "table",
      { class: "points" },
      el("caption", { class: "hidden" }, "Scores of this item"),
      el("thead", {}, el("tr", {}, el("td", {}), ...heads)),
      el("tbody", {}, ...rows),
    );
  }
  function caption(item) {
    const images = item.images.length ? item.images : [null];
    const answers = item.answers.map((answer, run) =>
      el(
        "div",
        { class: "answer" + (answer && answer.unparsed ? " unparsed" : "") },
        el(
          "div",
          { class: "line" },
          badge(run),
          answer
            ? answer.unparsed
              ? el("span", { class: "verdict" }, "? empty caption")
              : text(answer.text)
            : el("small", {}, "not answered"),
        ),
      ),
    );
    const references = item.references.map((one) => el("li", {}, text(one, "div")));
    return [
      el(
        "div",
        { class: "split" },
        el(
          "div",
          { class: images.length > 1 ? "two" : "" },
          ...images.map((one, place) => figure(one, (place ? "Second" : "First") + " image of item " + item.id)),
        ),
        el(
          "div",
          { class: "words" },
          el("h4", { class: "head" }, references.length === 1 ? "Reference" : `References (${references.length})`),
          el("ul", { class: "references" }, ...references),
          el("h4", { class: "head" }, two ? "Answers" : "Answer"),
          ...answers,
          points(item),
          prompt(item.answers),
        ),
      ),
    ];
  }
  function option([letter, words], part) {
    const right = letter === part.correct;
    const corrected = part.corrected !== part.correct && letter === part.corrected;
    return el(
      "li",
      {},
      el("span", { class: right ? "is" : null }, "(" + letter + ") ", el("bdi", {}, words)),
      right ? el("span", { class: "mark" }, "\u2713 right") : null,
      corrected ? el("span", { class: "mark other" }, "\u2713 right by the corrected key") : null,
    );
  }
  function reply(answer, part, run) {
    if (!answer) {
      return el("div", { class: "answer" }, el("div", { class: "line" }, badge(run), el("small", {}, "not answered")));
    }
    const right = answer.letter === part.correct;
    const kind = answer.unparsed ? "unparsed" : right ? "right" : "wrong";
    const verdict = answer.unparsed
      ? "? unparsed"
      : (right ? "\u2713 right" : "\u2717 wrong") + (answer.letter ? " (" + answer.letter + ")" : "");
    const judge = answer.judge === "parser" ? null : el("small", {}, "read by " + answer.judge);
    const same = part.corrected === part.correct || answer.unparsed;
    const other = same
      ? null
      : el("small", {}, (answer.letter === part.corrected ? "right" : "wrong") + " by the corrected key");
    return el(
      "div",
      { class: "answer " + kind },
      el("div", { class: "line" }, badge(run), el("span", { class: "verdict" }, verdict), judge, other),
      text(answer.text),
    );
  }
  function question(part, place, item) {
    const images = part.images.length ? part.images : [null];
    return el(
      "div",
      { class: "part" },
      el("div", { class: images.length > 1 ? "two" : "" }, ...images.map((one) => figure(one, "Image of question " + part.id))),
      el("p", { class: "text", dir: "auto" }, el("small", {}, el("bdi", {}, part.id), " "), part.question),
      el("ul", { class: "options" }, ...part.options.map((one) => option(one, part))),
      ...part.answers.map((answer, run) => reply(answer, part, run)),
      prompt(part.answers),
    );
  }
  function verdicts(item) {
    if (choice) {
      return item.scores.map((values, run) => {
        const value = values[0];
        const kind = value === null ? "" : value === 1 ? " right" : " wrong";
        const words = value === null ? "not answered" : value === 1 ? "\u2713 pair right" : "\u2717 pair wrong";
        return el("span", { class: "tag" + kind }, two ? LETTERS[run] + " " : "", words);
      });
    }
    const difference = two && data.metrics.length ? gain(item) : null;
    if (difference === null) return [];
    const kind = Math.abs(difference) <= EVEN ? "" : difference > 0 ? " right" : " wrong";
    const metric = data.metrics[state.metric].title;
    return [el("span", { class: "tag" + kind }, metric + ", B \u2212 A: " + signed(difference))];
  }
  function card(item) {
    const name = choice ? "Pair " : "Item ";
    const odd = unparsed(item)
      ? el("span", { class: "tag unparsed" }, choice ? "? unparsed answer" : "? empty caption")
      : null;
    const parts = choice
      ? [el("div", { class: "two parts" }, ...item.parts.map((part, place) => question(part, place, item)))]
      : caption(item);
    return el(
      "article",
      { class: "item", "aria-label": name + item.id },
      el(
        "header",
        {},
        el("h3", {}, name, el("bdi", {}, item.id)),
        item.kind ? el("span", { class: "tag" }, el("bdi", {}, item.kind)) : null,
        el("span", { class: "grow" }),
        odd,
        ...verdicts(item),
      ),
      ...parts,
    );
  }

  // ---- controls
  const list = el("div", { class: "items" });
  const status = el("p", { class: "status", role: "status", tabindex: "-1" });
  const show = el("fieldset", {}, el("legend", {}, "Show"));
  const metric = select("Score", data.metrics.map((one) => [one.name, one.title]), (value) => {
    state.metric = data.metrics.findIndex((one) => one.name === value);
  });
  const sort = select("Sort", sorts(), (value) => (state.sort = value));
  const kind = select("Kind", [["", "All kinds"], ...kinds.map((one) => [one, one])], (value) => (state.kind = value));
  const find = el("input", { type: "search", id: "find", autocomplete: "off", oninput: later });
  const pagers = [pager(), pager()];

  function select(title, options, set) {
    const id = "pick-" + title.toLowerCase();
    const node = el(
      "select",
      {
        id,
        onchange: () => {
          set(node.value);
          state.page = 1;
          render();
        },
      },
      ...options.map(([value, words]) => el("option", { value }, words)),
    );
    return { node, field: el("div", { class: "field" }, el("label", { for: id }, title), node) };
  }
  let waiting = 0;
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.find = find.value;
      state.page = 1;
      render();
    }, 150);
  }
  function pager() {
    const id = "page-" + Math.random().toString(36).slice(2);
    const back = el("button", { type: "button", onclick: () => turn(state.page - 1) }, "Previous");
    const next = el("button", { type: "button", onclick: () => turn(state.page + 1) }, "Next");
    const pick = el("select", { id, onchange: () => turn(Number(pick.value)) });
    const label = el("label", { for: id, class: "hidden" }, "Page");
    return { back, next, pick, node: el("div", { class: "pages" }, back, label, pick, next) };
  }
  function turn(page) {
    state.page = page;
    render();
    status.focus({ preventScroll: true });
    document.getElementById("list-top").scrollIntoView();
  }
  function showFilters() {
    const active = document.activeElement && document.activeElement.name === "show";
    show.replaceChildren(
      show.firstChild,
      ...filters().map((one) =>
        el(
          "label",
          { class: "choice" },
          el("input", {
            type: "radio",
            name: "show",
            value: one.key,
            checked: one.key === state.show,
            onchange: () => {
              state.show = one.key;
              state.page = 1;
              render();
            },
          }),
          el("span", {}, one.title, " ", el("small", {}, counted(data.items.filter(one.holds).length))),
        ),
      ),
    );
    if (active) show.querySelector("input:checked").focus();
  }
  function render() {
    findMiddle();
    showFilters();
    const held = sorted(chosen());
    const pages = Math.max(1, Math.ceil(held.length / PAGE_SIZE));
    state.page = Math.min(state.page, pages);
    const start = (state.page - 1) * PAGE_SIZE;
    const part = held.slice(start, start + PAGE_SIZE);
    const noun = choice ? "pairs" : "items";
    status.textContent = held.length
      ? `${counted(start + 1)} to ${counted(start + part.length)} of ${counted(held.length)} ${noun}`
      : `No ${noun} match`;
    list.replaceChildren(
      ...(part.length ? part.map(card) : [el("p", { class: "nothing" }, "Nothing matches these filters.")]),
    );
    for (const one of pagers) {
      one.node.hidden = pages === 1;
      one.back.disabled = state.page === 1;
      one.next.disabled = state.page === pages;
      if (one.pick.length !== pages) {
        one.pick.replaceChildren(
          ...Array.from({ length: pages }, (_, page) => el("option", { value: String(page + 1) }, `Page ${page + 1} of ${pages}`)),
        );
      }
      one.pick.value = String(state.page);
    }
    if (metric.node.options.length) metric.node.selectedIndex = state.metric;
    sort.node.value = state.sort;
    kind.node.value = state.kind;
    if (find.value !== state.find) find.value = state.find;
    writeAddress();
  }

  // A table that fits needs no stop of the Tab key.
  function stops() {
    for (const node of document.querySelectorAll(".scroll")) {
      node.tabIndex = node.scrollWidth > node.clientWidth ? 0 : -1;
    }
  }
  stops();
  addEventListener("resize", stops);
  addEventListener("toggle", stops, true);

  if (!data.items.length) {
    app.append(el("p", { class: "nothing" }, "This run holds no answers, only scores."));
    return;
  }
  const row = el("div", { class: "row" });
  if (data.metrics.length > 1) row.append(metric.field);
  if (data.metrics.length) row.append(sort.field);
  if (kinds.length) row.append(kind.field);
  row.append(el("div", { class: "field wide" }, el("label", { for: "find" }, "Search ids, references and answers"), find));
  app.append(
    el("form", { id: "controls", "aria-label": "Filter the items", onsubmit: (event) => event.preventDefault() }, show, row),
    el("div", { class: "bar", id: "list-top" }, status, pagers[0].node),
    list,
    el("div", { class: "bar" }, el("span", { class: "status" }), pagers[1].node),
  );
  readAddress();
  render();
  addEventListener("hashchange", () => {
    if (location.hash.includes("=")) {
      readAddress();
      render();
    }
  });
})();
