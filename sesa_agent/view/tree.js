// A tree from its compressed columns: nodes with their children in the order of sampling.
// Node 0 is the start, node n + 1 is turn n; dropped responses follow.

async function unpack(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(text, sign => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function buildTree(data) {
  const { turns, repeats, texts, parents } = data;
  const start = { id: 0, kind: "start", parent: null, after: texts[turns.before[0]], end: "" };
  const nodes = [start];
  parents.forEach((parent, turn) => nodes.push({
    ...answer(turns, turn, texts),
    kind: "turn",
    parent: nodes[parent + 1],
    before: texts[turns.before[turn]],
    after: texts[turns.after[turn]],
    sketch: texts[turns.sketch[turn]],
    index: turns.index[turn],
    outcome: turns.outcome[turn],
    draws: turns.draws[turn],
    reward: turns.reward[turn],
    legal: turns.legal[turn] === 1,
    merged: turns.merged[turn],
    end: turns.end[turn],
    value: turns.value[turn],
    advantage: turns.advantage[turn],
    weight: turns.weight[turn],
  }));
  repeats.parent.forEach((parent, place) => nodes.push({
    ...answer(repeats, place, texts),
    kind: "repeat",
    parent: nodes[parent + 1],
    after: "",
    sketch: "",
    earlier: repeats.earlier[place],
    end: "dropped",
    value: null,
    advantage: null,
  }));
  nodes.forEach((node, id) => Object.assign(node, { id, children: [], wins: 0, depth: 0 }));
  for (const node of nodes.slice(1)) node.parent.children.push(node);
  for (const node of nodes) {
    if (node.parent) node.depth = node.parent.depth + 1;
    node.children = drawnOrder(node.children);
    if (node.merged !== undefined && node.merged !== null) node.twin = nodes[node.merged + 1];
  }
  for (const node of nodes.slice().reverse()) {
    if (node.end === "won") node.wins += 1;
    if (node.parent) node.parent.wins += node.wins;
  }
  for (const node of nodes) node.haystack = haystack(node);
  const prompts = readPrompts(data.prompts);
  const largest = Math.max(1e-9, ...nodes.map(node => Math.abs(node.advantage ?? 0)));
  return { data, nodes, prompts, largest, wins: nodes.filter(node => node.end === "won") };
}

function answer(columns, place, texts) {
  const action = columns.action[place];
  return {
    response: texts[columns.response[place]],
    action: action === null ? null : texts[action],
    sampled: columns.sampled[place],
    plain: columns.plain[place],
    tokens: columns.tokens[place],
  };
}

// A proposal may have several outcomes, each a child. A dropped response comes after the proposals
// that were sampled before it.
function drawnOrder(children) {
  let rank = 0;
  for (const child of children) {
    if (child.kind === "turn" && child.outcome === 0) rank += 1;
    child.rank = child.kind === "turn" ? rank : child.earlier + 0.5;
  }
  return children.slice().sort((a, b) => a.rank - b.rank || a.id - b.id);
}

function readPrompts(packed) {
  const prompts = new Map();
  for (const [parent, like, shared, rest] of packed) {
    prompts.set(parent, (shared ? prompts.get(like).slice(0, shared) : "") + rest);
  }
  return prompts;
}

function haystack(node) {
  const parts = [name(node), node.response, node.after, node.sketch, node.end];
  return parts.filter(Boolean).join("\n").toLowerCase();
}

function name(node) {
  if (node.kind === "start") return "start";
  return node.action ?? "unreadable";
}

// The text of a card: a sketch says more than an answer that the board shows.
function title(node) {
  if (node.sketch && isBoard(node.after)) return node.sketch;
  return node.draws > 1 || node.outcome ? `${name(node)} ×${node.draws}` : name(node);
}

function pathTo(node) {
  const path = [];
  for (let step = node; step; step = step.parent) path.push(step);
  return path.reverse();
}

function siblings(node) {
  return node.parent ? node.parent.children : [node];
}
