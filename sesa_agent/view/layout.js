// The layout: turns from left to right, proposals of a decision below one another in the order of
// sampling. A subtree moves up until it touches the one above it at some depth.

const CARD = { width: 188, height: 100, small: 34, dropped: 22, start: 100 };
const COLUMN = 250;
const GAP = { sibling: 8, cousin: 22 };

function cardHeight(node) {
  if (node.kind === "repeat") return CARD.dropped;
  return node.end === "merged" ? CARD.small : CARD.height;
}

function layOut(tree) {
  const [start] = tree.nodes;
  for (const node of tree.nodes) {
    node.width = node.kind === "start" ? CARD.start : CARD.width;
    node.height = cardHeight(node);
    node.x = node.depth ? CARD.start + 62 + (node.depth - 1) * COLUMN : 0;
  }
  for (const node of tree.nodes.slice().reverse()) node.outline = place(node);
  start.y = 0;
  for (const node of tree.nodes) {
    for (const child of node.children) child.y = node.y + child.shift;
  }
  for (const node of tree.nodes) delete node.outline;
  const tops = tree.nodes.map(node => node.y - node.height / 2);
  const ends = tree.nodes.map(node => node.y + node.height / 2);
  const top = least(tops);
  tree.size = {
    width: -least(tree.nodes.map(node => -node.x - node.width)),
    height: -least(ends.map(end => -end)) - top,
  };
  for (const node of tree.nodes) node.y -= top;
  return tree;
}

// The outline of a subtree: highest and lowest position at each depth, from the node's own on,
// relative to its middle. Children have higher numbers, so they were placed before.
function place(node) {
  const tops = [], ends = [];
  for (const child of node.children) {
    const outline = child.outline;
    let shift = tops.length ? -Infinity : 0;
    for (let level = 0; level < Math.min(tops.length, outline.tops.length); level++) {
      const gap = level ? GAP.cousin : GAP.sibling;
      shift = Math.max(shift, ends[level] + gap - outline.tops[level]);
    }
    child.shift = shift;
    outline.tops.forEach((top, level) => {
      if (level >= tops.length) tops.push(top + shift);
      ends[level] = outline.ends[level] + shift;
    });
  }
  const own = node.height / 2;
  if (!node.children.length) return { tops: [-own], ends: [own] };
  const middle = (node.children[0].shift + node.children.at(-1).shift) / 2;
  for (const child of node.children) child.shift -= middle;
  return {
    tops: [-own, ...tops.map(top => top - middle)],
    ends: [own, ...ends.map(end => end - middle)],
  };
}

function least(numbers) {
  return numbers.reduce((least, number) => Math.min(least, number), Infinity);
}
