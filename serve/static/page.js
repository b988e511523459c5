"use strict";

const LABELS = ["knowledge", "policy", "delivery", "communication", "customer"];
const EXAMPLES = [
  "They promised a call back within a day. That was two weeks ago, and every time I ring I get another story.",
  "The driver left my parcel in the rain, although I was at home all day. The box was soaked through.",
  "Refunds only as a voucher, and only if you come to the shop in person? Who thought of that rule?",
];
const byId = (id) => document.getElementById(id);

let current = null; // the result that is shown
let nextExample = 0;

/** Make an element; what it says is always text, never markup. */
function make(tag, { text = "", className = "", children = [] } = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function say(id, message) {
  byId(id).textContent = message;
  byId(id).hidden = !message;
}

async function post(path, body) {
  return (await send(path, JSON.stringify(body), "application/json")).json();
}

/** Send a body and return the answer, if it is a good one. */
async function send(path, body, type) {
  const headers = { "Content-Type": type };
  const key = byId("key")?.value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body });
  } catch {
    const refused = type === "application/json" ? "" : " Or it would not take the file.";
    throw new Error(`The service cannot be reached. Is it still running?${refused}`);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Error(type === "application/json" ? explain(answer, problem) : explainFile(answer, problem));
}

/** Say what went wrong in words for people. */
function explain(answer, problem) {
  const wait = answer.headers.get("Retry-After");
  if (answer.status === 401) return "Give an API key that is in force.";
  if (answer.status === 403) return "This API key does not allow that.";
  if (answer.status === 413) return "The text is too long for the service.";
  if (answer.status === 422) return "There is nothing to read in this text.";
  if (answer.status === 429 || answer.status === 503) {
    return `The service is busy. Try again in ${wait === "1" ? "a second" : `${wait || "a few"} seconds`}.`;
  }
  return problem.title ? `${problem.title}. (${answer.status})` : `The service answered ${answer.status}.`;
}

function explainFile(answer, problem) {
  if (answer.status === 413) return "The file is too large for the service.";
  if ([422, 429, 503].includes(answer.status) && problem.detail) return `The service says: ${problem.detail}.`;
  return explain(answer, problem);
}

/** Cut a text wherever evidence begins or ends; offsets count code points, as the service does. */
function cut(text, evidence) {
  const characters = Array.from(text);
  const edges = new Set([0, characters.length]);
  for (const { start, end } of evidence) edges.add(start).add(end);
  const sorted = [...edges].sort((a, b) => a - b);
  return sorted.slice(1).map((end, i) => ({
    piece: characters.slice(sorted[i], end).join(""),
    labels: evidence.filter((one) => one.start <= sorted[i] && end <= one.end).map((one) => one.label),
    ending: evidence.filter((one) => one.end === end).map((one) => one.label),
  }));
}

function marked(text, evidence) {
  return cut(text, evidence).map(({ piece, labels, ending }) => {
    if (!labels.length) return document.createTextNode(piece);
    const names = ending.map((label) => make("small", { text: label, className: label }));
    return make("mark", { text: piece, className: labels[0], children: names });
  });
}

function bar(label, probability, isFound) {
  const progress = make("progress");
  progress.max = 1;
  progress.value = probability;
  progress.setAttribute("aria-hidden", "true");
  const percent = `${Math.round(100 * probability)} %`;
  const number = make("span", { text: percent, className: "number" });
  if (isFound) number.append(make("span", { text: " (found)", className: "aside" }));
  return make("div", {
    className: `bar ${label}${isFound ? " found" : ""}`,
    children: [make("dt", { text: label }), make("dd", { children: [progress, number] })],
  });
}

function sentences(texts) {
  return make("ul", { children: texts.map((text) => make("li", { text })) });
}

function list(title, texts) {
  return [make("h4", { text: title }), sentences(texts)];
}

function card(gap) {
  const title = gap.name[0].toUpperCase() + gap.name.slice(1);
  return make("section", {
    className: `card ${gap.id}`,
    children: [
      make("h3", { text: title }),
      make("p", { text: gap.definition }),
      ...list("Likely causes", gap.causes),
      ...list("What closes it", gap.remedies),
      make("details", { children: [make("summary", { text: "Questions to ask" }), sentences(gap.questions)] }),
    ],
  });
}

function verdict(result) {
  if (!result.labels.length) return "No gap found: the model, which reads English, sees no grievance in this text.";
  const names = result.gaps.map((gap) => gap.name);
  if (names.length === 1) return `This points to the ${names[0]}.`;
  return `This points to the ${names.slice(0, -1).join(", the ")} and the ${names.at(-1)}.`;
}

function show(text, answer) {
  const result = answer.results[0];
  current = result;
  byId("verdict").textContent = verdict(result);
  byId("review").hidden = !result.review;
  byId("truncated").hidden = !result.truncated;
  byId("quoted").replaceChildren(...marked(text, result.evidence));
  byId("bars").replaceChildren(
    ...LABELS.map((label) => bar(label, result.probabilities[label], result.labels.includes(label))),
  );
  byId("cards").replaceChildren(...result.gaps.map(card));
  byId("model").textContent = `Read by ${answer.model}.`;
  openFeedback();
  byId("result").hidden = false;
  byId("result").focus({ preventScroll: true });
  byId("result").scrollIntoView({ block: "start", behavior: "instant" });
}

/** While something is under way, its buttons do nothing. */
async function busy(form, work) {
  const buttons = [...form.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function ask(event) {
  event.preventDefault();
  const written = byId("text").value;
  const text = written.toWellFormed ? written.toWellFormed() : written; // half a character cannot be sent
  say("problem", "");
  if (!text.trim()) {
    say("problem", "Write or paste something first.");
    byId("text").focus();
    return;
  }
  byId("status").textContent = "Reading …";
  await busy(byId("ask"), async () => {
    try {
      const answer = await post("v1/classify", { text, evidence: true, explain: true });
      show(text, answer);
      byId("status").textContent = "Read.";
    } catch (error) {
      say("problem", error.message);
      byId("status").textContent = "";
    }
  });
}

// What it really is

function openFeedback() {
  if (!byId("judge")) return;
  byId("judge").hidden = !current.id;
  byId("correct").hidden = true;
  byId("wrong").setAttribute("aria-expanded", "false");
  byId("correct").reset();
  byId("thanks").textContent = "";
  say("feedback-problem", "");
}

async function sendFeedback(labels, comment) {
  say("feedback-problem", "");
  const body = { id: current.id, labels };
  if (comment) body.comment = comment;
  await busy(byId("result"), async () => {
    try {
      await post("v1/feedback", body);
      byId("judge").hidden = byId("correct").hidden = true;
      byId("thanks").textContent = "Thank you, that is kept.";
    } catch (error) {
      say("feedback-problem", error.message);
    }
  });
}

function correct() {
  const isOpen = byId("correct").hidden;
  byId("correct").hidden = !isOpen;
  byId("wrong").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) byId("correct").querySelector("input").focus();
}

function sendCorrection(event) {
  event.preventDefault();
  const ticked = [...byId("correct").querySelectorAll("input:checked")].map((input) => input.value);
  sendFeedback(ticked, byId("comment").value.trim());
}

// A whole file

const TYPES = {
  csv: "text/csv",
  tsv: "text/tab-separated-values",
  jsonl: "application/x-ndjson",
  ndjson: "application/x-ndjson",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  parquet: "application/vnd.apache.parquet",
};

let labelledUrl = "";

async function label(event) {
  event.preventDefault();
  say("archive-problem", "");
  byId("archive-status").replaceChildren();
  const file = byId("file").files[0];
  const [, stem, ending] = file?.name.match(/^(.*)\.([^.]*)$/) || [];
  const type = TYPES[ending?.toLowerCase()];
  if (!type) {
    say("archive-problem", `Choose a file that ends in ${Object.keys(TYPES).map((one) => `.${one}`).join(", ")}.`);
    byId("file").focus();
    return;
  }
  const column = byId("column").value.trim();
  const query = column ? `?text_column=${encodeURIComponent(column)}` : "";
  byId("archive-status").textContent = "Sending …";
  await busy(byId("archive"), async () => {
    try {
      byId("archive-progress").textContent = "";
      const answer = await send(`v1/classify/archive${query}`, file, type);
      const labelled = await received(answer);
      const name = answer.headers.get("Content-Disposition").match(/filename="labelled(\.\w+)"/)[1];
      const link = make("a", { text: `Save ${stem}-labelled${name}` });
      URL.revokeObjectURL(labelledUrl); // or every file would stay in memory
      labelledUrl = link.href = URL.createObjectURL(labelled);
      link.download = `${stem}-labelled${name}`;
      byId("archive-progress").textContent = "";
      byId("archive-status").replaceChildren("Done. ", link);
      link.focus();
    } catch (error) {
      say("archive-problem", error.message);
      byId("archive-progress").textContent = "";
      byId("archive-status").replaceChildren();
    }
  });
}

/** Wait for the whole of an answer, and tell how far it is: lines are rows, but for those inside a cell. */
async function received(answer) {
  const total = Number(answer.headers.get("Gapnlp-Rows"));
  const type = answer.headers.get("Content-Type");
  const pieces = [];
  const reader = answer.body.getReader();
  byId("archive-status").textContent = "Reading …";
  let lines = type.startsWith("text/") ? -1 : 0; // the first one names the columns
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error("The answer broke off before it was complete. Send the file again.");
    });
    if (done) return new Blob(pieces, { type });
    pieces.push(value);
    for (const byte of value) lines += byte === 10;
    const rows = Math.min(lines, total).toLocaleString();
    byId("archive-progress").textContent = `${rows} of ${total.toLocaleString()} rows`;
  }
}

byId("archive").addEventListener("submit", label);
byId("ask").addEventListener("submit", ask);
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
byId("example").addEventListener("click", () => {
  byId("text").value = EXAMPLES[nextExample++ % EXAMPLES.length];
  byId("ask").requestSubmit();
});
if (byId("judge")) {
  byId("right").addEventListener("click", () => sendFeedback(current.labels, ""));
  byId("wrong").addEventListener("click", correct);
  byId("correct").addEventListener("submit", sendCorrection);
}
