"use strict";
// How a run was made: command, stages, options, versions.

/** The name of a count in words, of one thing in the singular. */
function counted(name, value) {
  const words = name.replaceAll("_", " ");
  return value === 1 ? words.replace(/^match(es)/, "match").replace(/^([a-z]+[^s])s\b/, "$1") : words;
}

/** Stages: time, peak memory, what they counted. */
function stagesTable(stages) {
  const slowest = Math.max(...stages.map((stage) => stage.seconds), 1e-9);
  const largest = Math.max(...stages.map((stage) => stage.peak_mb || 0), 1e-9);
  return table(["Stage", "Time", "Peak memory", "What it did"], stages.map((stage) => [
    el("b", {}, stage.stage),
    bar(stage.seconds / slowest, `${duration(stage.seconds)}${stage.reused ? ", reused" : ""}`),
    stage.peak_mb === null ? "–" : bar(stage.peak_mb / largest, `${count(Math.round(stage.peak_mb))} MB`),
    Object.entries(stage.counts).map(([name, value]) => `${Number.isInteger(value) ? count(value) : value.toFixed(2)} ${counted(name, value)}`).join(", "),
  ]), { class: "stages" });
}

function optionsTable(options) {
  const changed = options.filter((option) => !option.default);
  const rows = (some) => table(["Option", "Value", "Stage"], some.map((option) => [el("code", {}, option.option), el("code", {}, option.value), option.stage]));
  return [
    changed.length ? rows(changed) : el("p", {}, "All options have their default values."),
    el("details", {}, el("summary", {}, `${plural(options.length - changed.length, "option")} at ${options.length - changed.length === 1 ? "its" : "their"} default`), rows(options.filter((option) => option.default))),
  ];
}

/** How a run was made: command, notes, stages, options, versions. */
function runParts(run) {
  const notes = run.stages.flatMap((stage) => stage.notes.map((note) => `${stage.stage}: ${note}`));
  const skipped = run.stages.flatMap((stage) => (stage.stage === "mapping" || stage.stage === "refinement" ? [] : stage.skipped.map((item) => `${item.name}: ${item.reason}`)));
  return [
    run.command ? el("h3", {}, "The command to run it again") : null, run.command ? commandBox(run.command) : null,
    el("h3", {}, "Stages"), stagesTable(run.stages),
    el("p", { class: "note" }, "Memory is this program's main memory; a stage that was reused says what it took when it ran."),
    notes.length ? el("h3", {}, "What the stages say") : null, notes.length ? el("ul", {}, notes.map((note) => el("li", {}, note))) : null,
    skipped.length ? el("h3", {}, "Left out") : null, skipped.length ? el("ul", {}, skipped.map((note) => el("li", {}, note))) : null,
    el("h3", {}, "Options"), ...optionsTable(run.options),
    el("div", { class: "columns" },
      el("div", {}, el("h3", {}, "Models"), run.models.length ? definitions(run.models.map((model) => [model.path, plural(model.images, "image")])) : el("p", {}, "none")),
      el("div", {}, el("h3", {}, "Versions"), definitions(Object.entries(run.versions))),
      Object.keys(run.machine).length ? el("div", {}, el("h3", {}, "Machine"), definitions(Object.entries(run.machine))) : null,
      el("div", {}, el("h3", {}, "Matcher"), matcherDefinitions(run.matcher))),
  ];
}

function matcherDefinitions(matcher) {
  const first = ["matcher", "weights", "weights_sha256", "resize", "threshold"].filter((name) => name in matcher);
  const rest = Object.keys(matcher).filter((name) => !first.includes(name));
  const entries = (names) => definitions(names.map((name) => [name.replaceAll("_", " "), matcher[name]]));
  return el("div", {}, entries(first), rest.length ? el("details", {}, el("summary", {}, `${rest.length} more`), entries(rest)) : null);
}
