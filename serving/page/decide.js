"use strict";
const byId = (id) => document.getElementById(id);
const form = byId("application");
const fields = [...form.querySelectorAll("[data-column]")];
const language = document.body.dataset.language;
const percent = (share) => `${String(Number((100 * share).toPrecision(3)))} %`;
const numeric = new Set(["number", "count", "flag"]);

function made(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

// What is not a number is sent as it is: the service says what is wrong with it.
function stated(field) {
  const text = field.value.trim();
  const number = Number(text);
  return numeric.has(field.dataset.kind) && Number.isFinite(number) ? number : field.value;
}

function body() {
  const given = fields.filter((field) => field.value.trim() !== "");
  const application = Object.fromEntries(given.map((field) => [field.dataset.column, stated(field)]));
  const client = byId("client").value.trim();
  return JSON.stringify(client === "" ? { application } : { client_id: client, application });
}

function count() {
  for (const group of form.querySelectorAll("details")) {
    const inside = fields.filter((field) => group.contains(field));
    const given = inside.filter((field) => field.value.trim() !== "");
    group.querySelector("summary .soft").textContent = `${given.length} of ${inside.length} given`;
  }
}

function choose(field, text) {
  if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === text)) {
    const option = made("option", `${text} (not declared)`);
    option.value = text;
    field.append(option);
  }
  field.value = text;
}

function pasted(text) {
  const read = JSON.parse(text);
  const application = read?.application ?? read;
  if (typeof application !== "object" || application === null || Array.isArray(application)) {
    throw new SyntaxError("no object");
  }
  return [application, typeof read.client_id === "string" ? read.client_id : ""];
}

function fill() {
  const said = byId("filled");
  try {
    const [application, client] = pasted(byId("paste").value);
    clearFaults();
    for (const field of fields) {
      const value = application[field.dataset.column] ?? "";
      choose(field, typeof value === "boolean" ? String(Number(value)) : String(value));
    }
    if (client !== "") byId("client").value = client;
    const known = new Set(fields.map((field) => field.dataset.column));
    const left = Object.keys(application).filter((name) => !known.has(name));
    const taken = fields.filter((field) => field.value !== "").length;
    said.textContent = `Columns filled in: ${taken}.` +
      (left.length ? ` Left out, since the form does not have them: ${left.join(", ")}.` : "");
    count();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    said.textContent = "This is not a JSON object. Nothing was filled in.";
  }
}

function clearFaults() {
  for (const field of fields) {
    field.removeAttribute("aria-invalid");
    byId(`${field.id}-error`).hidden = true;
  }
}

function clear() {
  clearFaults();
  byId("result").hidden = byId("problem").hidden = true;
  byId("waterfall").replaceChildren();
  byId("status").textContent = "";
}

const PLAIN = {
  400: ["The request could not be read", "Nothing was decided."],
  401: ["The key is not known", "Check that it was copied whole. Nothing was decided."],
  403: ["This key may not do that", "It needs the scope “explain”. Nothing was decided."],
  413: ["The application is too large", "Nothing was decided."],
  422: ["Some values do not fit", "Nothing was decided. Correct these and decide again:"],
  429: ["The key is used too often", "Nothing was decided. Wait a little, and decide again."],
  501: ["This model gives no reasons", "It cannot be asked on this page. Nothing was decided."],
  503: ["The service cannot decide now", "Nothing was decided. Try again in a moment."],
  504: ["The answer did not come in time", "A decision may have been recorded. Look it up before you ask again."],
};
const OTHER = ["The service failed", "Tell those who run it the number of the request below."];

function marked(place) {
  const item = document.createElement("li");
  const field = fields.find((one) => one.dataset.column === place.loc[1]);
  if (!field) {
    item.textContent = `${place.loc.join(", ") || "The whole request"}: ${place.msg}`;
    return item;
  }
  const error = byId(`${field.id}-error`);
  [error.textContent, error.hidden] = [place.msg, false];
  field.setAttribute("aria-invalid", "true");
  const group = field.closest("details");
  if (group) group.open = true;
  const link = made("a", field.dataset.column);
  link.href = `#${field.id}`;
  link.addEventListener("click", (event) => { event.preventDefault(); field.focus(); });
  item.append(link, `: ${place.msg}`);
  return item;
}

function refused(status, problem) {
  const [title, meaning] = PLAIN[status] ?? OTHER;
  byId("problem-title").textContent = title;
  byId("problem-detail").textContent = status === 422 && problem.errors ? meaning : `${meaning} ${problem.detail ?? ""}`;
  byId("problem-places").replaceChildren(...(problem.errors ?? []).map(marked));
  byId("problem-request").textContent = problem.request_id ?? "unknown";
  byId("problem").hidden = false;
  byId("problem-title").focus();
}

const DECIDED = { approve: "Approve", refer: "Refer to a person", decline: "Decline" };

function meaning(answer) {
  const [pd, from, to] = [answer.probability, answer.refer_from, answer.refer_to].map(percent);
  if (answer.withheld.length) return "The PD alone would approve. A person decides, since too little is known:";
  const band = from === to ? `Applications are declined from ${to} on.`
    : `A person decides between ${from} and ${to}, and beyond that it is a decline.`;
  const here = { approve: `The PD of ${pd} is below that.`, refer: `The PD of ${pd} is in between: this one is yours.`,
    decline: `The PD of ${pd} is not below ${to}.` };
  return `${band} ${here[answer.decision]}`;
}

function figures(answer) {
  const rows = { "Probability of default": percent(answer.probability), "Points": answer.score,
    "Risk level": answer.risk_level, "Applicant": answer.client_id, "Request": answer.request_id,
    "Model": answer.model_version, "Time": answer.timestamp };
  return Object.entries(rows).filter(([, value]) => value !== null)
    .flatMap(([name, value]) => [made("dt", name), made("dd", value)]);
}

function notKnown(answer) {
  const unknown = answer.unknown_columns;
  byId("unknown").textContent = unknown.length
    ? `The model does not know the level that is stated in: ${unknown.join(", ")}.`
    : "The model knows every level that is stated.";
  const missing = byId("missing");
  missing.hidden = answer.missing_columns.length === 0;
  missing.open = false;
  missing.querySelector("summary").textContent = `${answer.missing_columns.length} columns that the model reads are missing`;
  missing.querySelector("ul").replaceChildren(...answer.missing_columns.map((name) => made("li", name)));
}

function decided(text) {
  const picture = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  const answer = JSON.parse(picture.querySelector("metadata").textContent);
  byId("result").className = answer.decision;
  byId("result-title").textContent = `${DECIDED[answer.decision]}: PD ${percent(answer.probability)}`;
  byId("meaning").textContent = meaning(answer);
  byId("withheld").replaceChildren(...answer.withheld.map((why) => made("li", why)));
  byId("figures").replaceChildren(...figures(answer));
  byId("reasons-title").textContent = answer.decision === "decline" ? "Reasons for the decline" : "What raised the risk most";
  byId("reasons").replaceChildren(...answer.reasons.map((reason) => made("li", `${reason.text} (${reason.code})`)));
  picture.setAttribute("lang", language);
  byId("waterfall").replaceChildren(document.importNode(picture, true));
  notKnown(answer);
  byId("result").hidden = false;
  byId("result-title").focus();
}

async function ask() {
  const headers = { "Content-Type": "application/json", Accept: "image/svg+xml" };
  if (byId("key")) headers["X-API-Key"] = byId("key").value.trim();
  const options = { method: "POST", headers, body: body(), credentials: "omit", cache: "no-store" };
  const response = await fetch("explain", options);
  if (response.ok) return decided(await response.text());
  const problem = await response.json().catch(() => ({}));
  return refused(response.status, problem);
}

async function decide(event) {
  event.preventDefault();
  const button = byId("decide");
  if (button.getAttribute("aria-disabled") === "true") return;
  clear();
  byId("status").textContent = "Asking for a decision ...";
  button.setAttribute("aria-disabled", "true");
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    refused(0, { detail: "The service could not be reached, or its answer not be read." });
  } finally {
    button.removeAttribute("aria-disabled");
    byId("status").textContent = "";
  }
}

form.addEventListener("submit", decide);
byId("access")?.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", count);
form.addEventListener("reset", () => setTimeout(() => { clear(); count(); byId("filled").textContent = ""; byId("paste").value = ""; }));
byId("fill").addEventListener("click", fill);
count();
