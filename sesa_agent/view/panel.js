// The panel beside the tree: all that is known of the turn that is chosen. Texts of games and models
// become text nodes and nothing else.

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== ""));
  return element;
}

function boardCanvas(text, env, size) {
  const ratio = window.devicePixelRatio || 1;
  const canvas = make("canvas", { width: size * ratio, height: size * ratio, role: "img", "aria-label": `Board: ${text}` });
  canvas.style.width = canvas.style.height = `${size}px`;
  drawBoard(canvas.getContext("2d"), text, env, 0, 0, size * ratio);
  return canvas;
}

function showPanel(panel, state, choose) {
  const { tree, chosen, about } = state;
  const parts = chosen.kind === "start" ? startParts(state) : turnParts(state);
  if (chosen.kind !== "start") {
    parts.push(make("h2", {}, "Path from the start"), pathList(state, choose));
  }
  const decision = chosen.parent ?? chosen;
  if (decision.children.length) {
    const where = decision.kind === "start" ? "the first turn" : `turn ${decision.depth + 1}`;
    parts.push(make("h2", {}, `Proposals at ${where}, in the order they were drawn`), decisionTable(state, decision, choose));
  }
  if (chosen.kind !== "start") {
    parts.push(make("h2", {}, `Response, ${count(chosen.tokens, "token")}`), make("pre", { id: "response" }, chosen.response || "(empty)"));
    if (chosen.sketch) parts.push(make("h2", {}, "Drawn along the sketch"), make("pre", {}, chosen.sketch));
  }
  const prompt = tree.prompts.get(decision.id - 1);
  if (decision.children.length) {
    parts.push(make("h2", {}, "Plain prompt of this decision"), make("pre", { id: "prompt" }, prompt ?? "Its text needs the tokenizer of the run's model, which was not found where this page was made."));
  }
  if (about.notes.length) parts.push(make("h2", {}, "To know"), make("ul", { className: "notes" }, ...about.notes.map(note => make("li", {}, note))));
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}

function startParts({ tree, about }) {
  const { data } = tree;
  const rows = [
    ["puzzle", data.seed], ["turns", about.turns], ["policy calls", data.calls],
    ["dropped repeats", data.duplicates], ["sampler", samplerWords(about)], ["credit", about.credit],
  ];
  return [
    make("div", { className: "what" }, make("strong", {}, "Start")),
    pictureOf(tree.nodes[0].after, data.env, 150),
    make("dl", {}, ...rows.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value)), make("dd", {})])),
  ];
}

function samplerWords({ sampler, proposer }) {
  return sampler === "tree" || sampler === "single_pass" ? `${sampler}, ${proposer}` : sampler;
}

function pictureOf(text, env, size) {
  if (isBoard(text)) return make("div", { className: "boards" }, boardCanvas(text, env, size));
  return make("pre", {}, text || "(no text)");
}

function turnParts({ tree, chosen, about }) {
  const env = tree.data.env;
  const won = chosen.end === "won" ? "won" : "";
  const place = chosen.kind === "repeat" ? "dropped" : `proposal ${chosen.rank}`;
  const parts = [
    make("div", { className: "what" }, make("strong", { id: "action" }, name(chosen)), make("span", {}, `turn ${chosen.depth}, ${place}`), make("span", { className: won }, won ? "★ won" : endWords(chosen))),
    make("p", { className: "how" }, howDrawn(chosen, about)),
  ];
  const before = chosen.parent.after;
  if (chosen.kind === "repeat") parts.push(pictureOf(before, env, 120));
  else if (isBoard(before) && (isBoard(chosen.after) || !chosen.after)) {
    const after = chosen.after ? boardCanvas(chosen.after, env, 130) : make("small", {}, "not saved");
    parts.push(make("div", { className: "boards" }, boardCanvas(before, env, 130), "→", after));
  } else {
    parts.push(make("h2", {}, "Before"), make("pre", {}, before));
    if (chosen.after !== before) parts.push(make("h2", {}, "After"), make("pre", {}, chosen.after || "(not saved)"));
  }
  parts.push(make("dl", { id: "numbers" }, ...numberRows(chosen, about).flatMap(([key, value, note, style]) => [make("dt", {}, key), make("dd", { className: style ?? "" }, value), make("dd", {}, note ?? "")])));
  return parts;
}

function numberRows(node, about) {
  const rows = [
    ["log p, plain prompt", logarithm(node.plain), node.plain === null ? "not saved" : `p ${probability(node.plain)}`],
    ["log p, as it was drawn", logarithm(node.sampled), `p ${probability(node.sampled)}`],
  ];
  if (node.kind === "repeat") return rows;
  const shade = node.advantage > 0 ? "plus" : node.advantage < 0 ? "minus" : "";
  rows.push(["advantage", node.advantage === null ? "–" : signed(node.advantage), node.advantage === null ? "not taught" : `credit: ${about.credit}`, shade]);
  if (node.weight !== null && node.weight !== 1) rows.push(["times", plainNumber(node.weight), "p plain / p drawn: less where x would not say it"]);
  if (node.weight === null) rows.push(["times", "?", "p plain / p drawn, not saved"]);
  rows.push(["value", node.value === null ? "–" : plainNumber(node.value), node.value === null ? "not known" : about.value]);
  rows.push(["reward", plainNumber(node.reward), node.legal ? "" : "not a legal action"]);
  if (node.draws > 1 || node.outcome > 0) rows.push(["outcome", String(node.outcome + 1), `came up in ${count(node.draws, "draw")}`]);
  return rows;
}

function logarithm(value) {
  return value === null ? "–" : value.toFixed(3).replace("-", "−");
}

function howDrawn(node, { sampler, proposer }) {
  const earlier = node.kind === "repeat" ? node.earlier : node.rank - 1;
  if (sampler === "two_stage" && node.sketch) return "Drawn with its sketch in view.";
  if (proposer === "one_response" && sampler !== "parallel" && siblings(node).length > 1) return `Answer ${earlier + 1} of one reply.`;
  if (sampler === "parallel" || proposer === "independent" || earlier === 0) return "Drawn under the plain prompt: an ordinary answer.";
  const words = earlier === 1 ? "the earlier answer" : `the ${earlier} earlier answers`;
  if (proposer === "without_replacement") return `Drawn under the plain prompt, ${words} excluded.`;
  return `Asked for with ${words} in view.`;
}

function endWords(node) {
  if (node.end === "merged") return "same state as before: dashed line";
  if (node.kind === "repeat") return "said before, not played";
  return node.end;
}

function pathList(state, choose) {
  const items = pathTo(state.chosen).map(node => {
    const board = isBoard(node.after) ? boardCanvas(node.after, state.tree.data.env, 44) : null;
    const chance = node.plain === null || node.plain === undefined ? "" : make("small", {}, probability(node.plain));
    const button = make("button", { type: "button", onclick: () => choose(node) }, board, short(title(node)), chance);
    if (node === state.chosen) button.setAttribute("aria-current", "true");
    return make("li", {}, button);
  });
  return make("ol", { className: "path" }, ...items);
}

function decisionTable(state, decision, choose) {
  const head = ["", "action", "plain", "drawn", "value", "adv.", ""];
  const rows = decision.children.map(node => {
    const isFaint = node.kind === "repeat" || node.end === "merged";
    const shade = node.advantage > 0 ? "plus" : node.advantage < 0 ? "minus" : "";
    const cells = [
      node.kind === "repeat" ? "" : String(node.rank),
      make("button", { type: "button" }, short(title(node))),
      node.plain === null ? "–" : probability(node.plain),
      probability(node.sampled),
      node.value === null ? "–" : plainNumber(node.value),
      node.advantage === null ? "–" : make("span", { className: shade }, signed(node.advantage)),
      becameOf(node),
    ];
    const row = make("tr", { className: `${isFaint ? "faint" : ""} ${node.kind === "repeat" ? "dropped" : ""}`, onclick: () => choose(node) }, ...cells.map(cell => make("td", {}, cell)));
    row.setAttribute("aria-selected", String(node === state.chosen));
    return row;
  });
  return make("table", { id: "decision" }, make("thead", {}, make("tr", {}, ...head.map(text => make("th", { scope: "col" }, text)))), make("tbody", {}, ...rows));
}

function becameOf(node) {
  if (node.end === "won") return make("span", { className: "won" }, "★ won");
  if (node.end) return node.end;
  return node.wins ? make("span", { className: "won" }, `${count(node.wins, "success", "es")} below`) : "goes on";
}

function short(text) {
  const line = text.replace(/\s+/g, " ");
  return line.length > 26 ? `${line.slice(0, 25)}…` : line;
}

function count(number, what, ending = "s") {
  return `${number} ${what}${number === 1 ? "" : ending}`;
}
