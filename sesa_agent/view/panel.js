// The panel beside the tree, with everything about the selected turn. Texts of games and models
// only become text nodes.

const NO_TOKENIZER = "Its text needs the tokenizer of the run's model, which was not found when "
  + "this page was written.";

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== ""));
  return element;
}

function heading(text) {
  return make("h2", {}, text);
}

function boardCanvas(text, env, size) {
  const ratio = window.devicePixelRatio || 1;
  const canvas = make("canvas", { width: size * ratio, height: size * ratio, role: "img" });
  canvas.setAttribute("aria-label", `Board: ${text}`);
  canvas.style.width = canvas.style.height = `${size}px`;
  drawBoard(canvas.getContext("2d"), text, env, 0, 0, size * ratio);
  return canvas;
}

function showPanel(panel, state, choose) {
  const { tree, chosen, about } = state;
  const isStart = chosen.kind === "start";
  const parts = isStart ? startParts(state) : turnParts(state);
  if (!isStart) parts.push(heading("Path from the start"), pathList(state, choose));
  const decision = chosen.parent ?? chosen;
  const where = isStart || chosen.depth === 1 ? "the first turn" : `turn ${chosen.depth}`;
  parts.push(heading(`Proposals at ${where}, in the order of sampling`));
  parts.push(decisionTable(chosen, decision, choose));
  if (!isStart) {
    parts.push(heading(`Response, ${count(chosen.tokens, "token")}`));
    parts.push(make("pre", { id: "response" }, chosen.response || "(empty)"));
  }
  if (chosen.sketch) parts.push(heading("Sampled with this sketch"), make("pre", {}, chosen.sketch));
  const prompt = tree.prompts.get(decision.id - 1) ?? NO_TOKENIZER;
  parts.push(heading("Plain prompt of this decision"), make("pre", { id: "prompt" }, prompt));
  if (about.notes.length) {
    const notes = about.notes.map(note => make("li", {}, note));
    parts.push(heading("Notes"), make("ul", { className: "notes" }, ...notes));
  }
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}

function startParts({ tree, about }) {
  const { env, seed, calls, duplicates } = tree.data;
  const isTree = about.sampler === "tree" || about.sampler === "single_pass";
  const start = tree.nodes[0].after;
  const rows = [
    ["puzzle", seed],
    ["turns", about.turns],
    ["policy calls", calls],
    ["dropped duplicates", duplicates],
    ["sampler", isTree ? `${about.sampler}, ${about.proposer}` : about.sampler],
    ["credit", about.credit],
  ];
  return [
    make("div", { className: "what" }, make("strong", {}, "Start")),
    isBoard(start)
      ? make("div", { className: "boards" }, boardCanvas(start, env, 150))
      : make("pre", {}, start || "(no text)"),
    factList(rows),
  ];
}

// Rows of a name, a value, a remark and the value's class; the last two are optional.
function factList(rows) {
  const cells = rows.flatMap(([key, value, remark, className]) => [
    make("dt", {}, key),
    make("dd", { className: className ?? "" }, String(value)),
    make("dd", {}, remark ?? ""),
  ]);
  return make("dl", {}, ...cells);
}

function turnParts({ tree, chosen, about }) {
  const isWon = chosen.end === "won";
  const place = chosen.kind === "repeat" ? "dropped" : `proposal ${chosen.rank}`;
  return [
    make(
      "div",
      { className: "what" },
      make("strong", {}, name(chosen)),
      make("span", {}, `turn ${chosen.depth}, ${place}`),
      make("span", { className: isWon ? "won" : "" }, endWords(chosen)),
    ),
    make("p", { className: "how" }, howDrawn(chosen, about)),
    ...beforeAndAfter(chosen, tree.data.env),
    factList(numberRows(chosen, about)),
  ];
}

function beforeAndAfter(node, env) {
  const before = node.parent.after, after = node.kind === "repeat" ? before : node.after;
  if (isBoard(before) && (isBoard(after) || !after)) {
    const boards = [boardCanvas(before, env, 130)];
    if (node.kind !== "repeat") {
      boards.push("→", after ? boardCanvas(after, env, 130) : make("small", {}, "not saved"));
    }
    return [make("div", { className: "boards" }, ...boards)];
  }
  const parts = [heading("Before"), make("pre", {}, before)];
  if (after !== before) parts.push(heading("After"), make("pre", {}, after || "(not saved)"));
  return parts;
}

function episodeReturn(node) {
  let total = 0;
  for (let at = node; at.parent; at = at.parent) total += at.reward;
  return total;
}

function numberRows(node, about) {
  const plain = node.plain === null ? "not saved" : `p ${probability(node.plain)}`;
  const rows = [
    ["log p, plain prompt", logarithm(node.plain), plain],
    ["log p, as sampled", logarithm(node.sampled), `p ${probability(node.sampled)}`],
  ];
  if (node.kind === "repeat") return rows;
  if (node.advantage === null) rows.push(["advantage", "–", "not trained on"]);
  else rows.push(["advantage", signed(node.advantage), `credit: ${about.credit}`, shadeClass(node)]);
  if (node.weight !== 1) {
    const weight = node.weight === null ? "unknown" : plainNumber(node.weight);
    rows.push(["times", weight, `p plain / p sampled, at most ${about.gap === "truncated" ? 2 : 1}`]);
  }
  if (node.value === null) rows.push(["value", "–", "unknown"]);
  else rows.push(["value", plainNumber(node.value), about.value]);
  rows.push(["reward", plainNumber(node.reward), node.legal ? "" : "not a legal action"]);
  rows.push(["return", plainNumber(episodeReturn(node)), "rewards up to here"]);
  if (node.draws > 1 || node.outcome > 0) {
    rows.push(["outcome", node.outcome + 1, `occurred in ${count(node.draws, "sample")}`]);
  }
  return rows;
}

function howDrawn(node, { sampler, proposer }) {
  const earlier = node.kind === "repeat" ? node.earlier : node.rank - 1;
  if (node.sketch) return "Sampled with its sketch in the prompt.";
  const isPlain = sampler === "parallel" || proposer === "independent" || node.index === 0;
  if (isPlain || !earlier && proposer !== "one_response") {
    return "Sampled from the plain prompt: an ordinary answer.";
  }
  if (proposer === "one_response") return `Answer ${earlier + 1} of one response.`;
  const words = earlier === 1 ? "the earlier answer" : `the ${earlier} earlier answers`;
  if (proposer === "without_replacement") return `Sampled from the plain prompt, ${words} excluded.`;
  return `Sampled with ${words} in the prompt.`;
}

function endWords(node) {
  if (node.end === "won") return "★ won";
  if (node.end === "merged") return "same state as before: dashed line";
  return node.kind === "repeat" ? "duplicate, not played" : node.end;
}

function shadeClass(node) {
  return node.advantage > 0 ? "plus" : node.advantage < 0 ? "minus" : "";
}

function pathList({ tree, chosen }, choose) {
  const items = pathTo(chosen).map(node => {
    const board = isBoard(node.after) ? boardCanvas(node.after, tree.data.env, 44) : null;
    const chance = (node.plain ?? null) === null ? "" : make("small", {}, probability(node.plain));
    const properties = { type: "button", onclick: () => choose(node) };
    const button = make("button", properties, board, short(title(node)), chance);
    if (node === chosen) button.setAttribute("aria-current", "true");
    return make("li", {}, button);
  });
  return make("ol", { className: "path" }, ...items);
}

function decisionTable(chosen, decision, choose) {
  const heads = ["", "action", "plain", "sampled", "value", "adv.", ""];
  const rows = decision.children.map(node => decisionRow(node, node === chosen, choose));
  return make(
    "table",
    { id: "decision" },
    make("thead", {}, make("tr", {}, ...heads.map(text => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows),
  );
}

function decisionRow(node, isChosen, choose) {
  const isRepeat = node.kind === "repeat";
  const kinds = [isRepeat || node.end === "merged" ? "faint" : "", isRepeat ? "dropped" : ""];
  const advantage = node.advantage === null
    ? "–" : make("span", { className: shadeClass(node) }, signed(node.advantage));
  const cells = [
    isRepeat ? "" : String(node.rank),
    make("button", { type: "button" }, short(title(node))),
    node.plain === null ? "–" : probability(node.plain),
    probability(node.sampled),
    node.value === null ? "–" : plainNumber(node.value),
    advantage,
    becameOf(node),
  ];
  const properties = { className: kinds.join(" ").trim(), onclick: () => choose(node) };
  const row = make("tr", properties, ...cells.map(cell => make("td", {}, cell)));
  row.setAttribute("aria-selected", String(isChosen));
  return row;
}

function becameOf(node) {
  if (node.end === "won") return make("span", { className: "won" }, "★ won");
  if (node.end) return node.end;
  if (!node.wins) return "continues";
  return make("span", { className: "won" }, `${count(node.wins, "success", "es")} below`);
}
