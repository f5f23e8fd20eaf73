/** The HTTP interface, from `openapi.json`: each route with parameters, body, answers, and a line for curl. */

const $ = (id) => document.getElementById(id);
const base = new URL(".", location.href);
let schemas = {};

/** An element with properties and children; text stays text. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  const { data = {}, ...plain } = properties;
  Object.assign(element, plain);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** Prose with `code` in backquotes. */
function prose(name, text, properties) {
  const parts = text.split("`").map((part, n) => (n % 2 ? make("code", {}, part) : part));
  return make(name, properties, ...parts);
}

function resolve(schema) {
  return schema?.$ref ? { title: schema.$ref.split("/").at(-1), ...schemas[schema.$ref.split("/").at(-1)] } : schema ?? {};
}

/** What kind of value a schema stands for, in a word or two. */
function kindOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return either.map(kindOf).join(" | ");
  if (schema.type === "array") return `array of ${kindOf(schema.items ?? {})}`;
  return schema.format ? `${schema.type}, ${schema.format}` : [schema.type ?? "any"].flat().join(" | ");
}

function boundsOf(schema) {
  const { minimum, exclusiveMinimum, maximum, minLength, maxLength, pattern } = schema;
  const words = [];
  if (exclusiveMinimum !== undefined) words.push(`above ${exclusiveMinimum}`);
  if (minimum !== undefined || maximum !== undefined) words.push(`${minimum ?? ""} to ${maximum ?? ""}`.trim());
  if (maxLength !== undefined && !pattern) words.push(`${minLength ?? 0} to ${maxLength} characters`);
  if (schema.default !== undefined && schema.default !== null) words.push(`default ${JSON.stringify(schema.default)}`);
  if (pattern) words.push(`\`${pattern}\``);
  return words.join("; ");
}

/** The structs that a schema leads to at once. */
function refsOf(schema) {
  if (!schema) return [];
  if (schema.$ref) return [schema];
  return [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), schema.items].filter(Boolean).flatMap(refsOf);
}

/** A struct as a table of its members, those of further structs folded below. */
function shape(schema, isOpen, path = []) {
  const { title, description = "", properties = {}, required = [] } = resolve(schema);
  if (path.includes(title)) return null;
  const rows = Object.entries(properties).map(([name, member]) =>
    make(
      "tr",
      {},
      make("td", {}, make("code", {}, name), required.includes(name) ? "" : make("span", { className: "kind" }, " optional")),
      make(
        "td",
        {},
        make("span", { className: "kind" }, kindOf(member), " "),
        prose("span", [member.description, boundsOf(member)].filter(Boolean).join("; ")),
        ...refsOf(member).map((ref) => shape(ref, false, [...path, title])),
      ),
    ),
  );
  const list = make("table", {}, make("tbody", {}, ...rows));
  return make(
    "details",
    { className: "shape", open: isOpen },
    make("summary", {}, title),
    description ? prose("p", description.replaceAll("``", "`"), { className: "kind" }) : null,
    list,
  );
}

function parametersOf({ parameters = [] }) {
  if (!parameters.length) return [];
  const rows = parameters.map(({ name, in: where, required, schema, description }) =>
    make(
      "tr",
      {},
      make("td", {}, make("code", {}, name), " ", make("span", { className: "kind" }, where), required ? make("span", { className: "needed" }, " needed") : ""),
      make("td", {}, prose("span", `${description} `), prose("span", [kindOf(schema), boundsOf(schema)].filter(Boolean).join("; "), { className: "kind" })),
    ),
  );
  return [make("h3", {}, "Parameters"), make("table", {}, make("tbody", {}, ...rows))];
}

function bodyOf({ requestBody }) {
  if (!requestBody) return [];
  const [{ schema = {} }] = Object.values(requestBody.content).filter((each) => each.schema);
  const kinds = make("small", {}, Object.keys(requestBody.content).join(", "));
  return [make("h3", {}, "Body", kinds), make("p", { className: "kind" }, kindOf(schema)), ...unique(refsOf(schema)).map((ref) => shape(ref, false))];
}

const unique = (refs) => [...new Map(refs.map((ref) => [ref.$ref, ref])).values()];

function answersOf({ responses }) {
  const rows = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const refs = unique(Object.values(content).flatMap(({ schema }) => refsOf(schema)));
    return make(
      "tr",
      {},
      make("td", {}, make("span", { className: "status", data: { class: status[0] } }, status)),
      make(
        "td",
        {},
        prose("span", `${description} `),
        make("span", { className: "kind" }, Object.keys(content).join(", ")),
        ...(status[0] === "2" ? refs.map((ref) => shape(ref, false)) : []),
      ),
    );
  });
  return [make("h3", {}, "Answers"), make("table", {}, make("tbody", {}, ...rows))];
}

/** A command to try it with, apollo standing for every project. */
function curlOf(method, path, { requestBody, responses }) {
  const url = new URL(path.slice(1).replaceAll("{project}", "apollo").replaceAll(/\{(\w+)\}/g, "<$1>"), base).href;
  const words = ["curl", method === "GET" ? "-N" : `-X ${method}`, `-H 'Authorization: Bearer <key>'`];
  const { schema } = requestBody?.content["application/json"] ?? {};
  if (schema) words.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(exampleOf(schema))}'`);
  if (responses["101"]) return "";
  return [...words, `'${decodeURI(url)}'`].join(schema ? " \\\n  " : " ");
}

function exampleOf(schema) {
  const known = {
    Event: { specversion: "1.0", id: "deploy-1", source: "/deploys", type: "deploy_finished", time: "2026-11-26T09:30:00Z", project: "apollo", data: {} },
    Choice: { decision: "approved", comment: "looks good" },
    Claim: { holder: "my-run", ttl_s: 10 },
  };
  const [first] = refsOf(schema);
  return known[resolve(first).title] ?? {};
}

function example(text) {
  if (!text) return [];
  const shown = make("pre", {}, text);
  const parts = [make("h3", {}, "Try it"), make("div", { className: "example" }, shown)];
  if (!navigator.clipboard) return parts; // over plain HTTP from another machine
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  shown.after(button);
  return parts;
}

function pathOf(path) {
  const parts = path.split(/(\{\w+\})/).map((part) => (part.startsWith("{") ? make("b", {}, part) : part));
  return make("code", { className: "path" }, ...parts);
}

function routeOf(method, path, operation) {
  const shown = operation.responses["101"] ? "WS" : method;
  const rights = operation["x-rights"] ?? [];
  const inside = make(
    "div",
    { className: "inside" },
    operation.description ? prose("p", operation.description) : null,
    operation.security?.length === 0
      ? make("p", {}, "Open to all.")
      : make("p", {}, rights.length ? "Rights: " : "Any credential.", ...rights.map((right) => make("span", { className: "chip" }, right))),
    ...parametersOf(operation),
    ...bodyOf(operation),
    ...answersOf(operation),
    ...example(curlOf(method, path, operation)),
  );
  return make(
    "details",
    { className: "route card", id: operation.operationId, data: { search: `${shown} ${path} ${operation.summary}`.toLowerCase() } },
    make(
      "summary",
      {},
      make("span", { className: "method", data: { method: shown } }, shown),
      pathOf(path),
      prose("span", operation.summary, { className: "short" }),
    ),
    inside,
  );
}

function linkOf(route) {
  const [method, path] = route.querySelector("summary").children;
  return make("li", {}, make("a", { href: `#${route.id}` }, method.cloneNode(true), make("span", { title: path.textContent }, path.textContent.replace("/projects/{project}/", "…/"))));
}

function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const route of document.querySelectorAll(".route")) {
    route.hidden = !words.every((word) => route.dataset.search.includes(word));
    document.querySelector(`#contents a[href="#${route.id}"]`).parentElement.hidden = route.hidden;
  }
  for (const tag of document.querySelectorAll(".tag")) tag.hidden = !tag.querySelector(".route:not([hidden])");
}

function openNamed() {
  const route = location.hash && $(location.hash.slice(1));
  if (!route) return;
  route.open = true;
  route.scrollIntoView();
}

async function show() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: the server answers ${answer.status}`);
  const api = await answer.json();
  schemas = api.components.schemas;
  const routes = Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => [operation.tags[0], routeOf(method.toUpperCase(), path, operation)]),
  );
  const tags = api.tags
    .map(({ name, description }) => ({ name, description, own: routes.filter(([tag]) => tag === name).map(([, route]) => route) }))
    .filter(({ own }) => own.length);
  $("contents").replaceChildren(
    ...tags.flatMap(({ name, own }) => [make("h2", {}, name), make("ul", {}, ...own.map(linkOf))]),
  );
  $("routes").replaceChildren(
    prose("p", `${api.info.description} Version ${api.info.version}.`, { className: "about" }),
    ...tags.map(({ name, description, own }) =>
      make("section", { className: "tag" }, make("h2", {}, name), prose("p", description), ...own),
    ),
  );
  $("routes").removeAttribute("aria-busy");
  $("filter").addEventListener("input", filter);
  addEventListener("hashchange", openNamed);
  openNamed();
}

show().catch((error) => $("routes").replaceChildren(make("p", { className: "empty", role: "alert" }, String(error.message))));
