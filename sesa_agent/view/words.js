// Numbers and texts for the reader.

function plainNumber(value) {
  return value.toFixed(Math.abs(value) < 10 ? 3 : 1).replace(/^(-?)0\./, "$1.").replace("-", "−");
}

function signed(value) {
  const size = Math.abs(value);
  if (!size) return "0";
  const text = size < 0.005 ? size.toExponential(0) : size.toFixed(size < 10 ? 2 : 1);
  return `${value < 0 ? "−" : "+"}${text.replace(/^0\./, ".").replace("e-", "e−")}`;
}

// A probability to three decimals, or its logarithm if that would be .000.
function probability(logprob) {
  if (logprob < Math.log(0.001)) return `e^${logprob.toFixed(1).replace("-", "−")}`;
  const text = Math.min(1, Math.exp(logprob)).toFixed(3);
  return text.startsWith("0.") ? text.slice(1) : text;
}

function logarithm(value) {
  return value === null ? "–" : value.toFixed(3).replace("-", "−");
}

function short(text) {
  const line = text.replace(/\s+/g, " ");
  return line.length > 26 ? `${line.slice(0, 25)}…` : line;
}

function count(number, what, ending = "s") {
  return `${number} ${what}${number === 1 ? "" : ending}`;
}
