// What a reader can move, below the figure it belongs to. Without this script the figure stands alone.
// Each explorer gets its host, its words in the page's language, and what the figure recorded:
// for every panel its series by key, `drawn[0].root.x`. `READS` in explore.py says which it needs.

const explorers = {
  // One query's weights over 64 keys, as the heads get wider.
  scores(host, words, drawn) {
    const KEYS = 64;
    const form = build("form", {}, [
      slider("width", words.width, { min: 2, max: 12, value: 6 }),
      radios("scale", words.divide, { root: "√dₖ", none: words.nothing, width: "dₖ" }),
      build("button", { type: "button" }, [words.again]),
    ]);
    const bars = build("div", { class: "qa-bars", role: "img" });
    const says = build("p", { class: "qa-explore__says", "aria-live": "polite" });
    const recorded = build("p", { class: "qa-note" });
    let seed = 1;

    const show = () => {
      const { width, scale } = Object.fromEntries(new FormData(form));
      const d_k = 2 ** Number(width);
      form.elements.width.nextElementSibling.textContent = d_k;
      const weights = formulas.softmax(
        formulas.scores(formulas.gaussian(KEYS, seed), d_k, scale),
      );
      bars.replaceChildren(
        ...weights.map((weight) => build("span", { style: `height: ${100 * weight}%` })),
      );
      says.textContent = fill(words.says, {
        largest: percent(Math.max(...weights)),
        entropy: percent(formulas.entropyShare(weights)),
      });
      bars.setAttribute("aria-label", says.textContent);
      const [entropy, largest] = drawn.map((panel) => panel[scale]);
      const at = largest.x.findIndex((x) => Math.abs(x - Math.log10(d_k)) < 1e-3);
      recorded.textContent = fill(words.recorded, {
        d_k,
        largest: percent(largest.y[at]),
        entropy: percent(entropy.y[at]),
      });
    };
    form.querySelector("button").addEventListener("click", () => {
      seed += 1;
      show();
    });
    host.append(form, build("p", { class: "qa-note" }, [words.bars]), bars, says, recorded);
    return [form, show];
  },

  // Which key each query may look at, over a sentence.
  masks(host, words) {
    const form = build("form", {}, [
      select("look", words.attention, words.looks),
      select("padding", words.padding, words.sides),
      checkbox("masked", words.masked),
    ]);
    const table = build("table", { class: "qa-look" });
    const says = build("p", { class: "qa-explore__says", "aria-live": "polite" });
    let chosen = 2;

    const show = () => {
      const { look, padding, masked } = Object.fromEntries(new FormData(form));
      const pads = padding === "none" ? [] : ["[PAD]", "[PAD]"];
      const keys = padding === "left" ? [...pads, ...words.tokens] : [...words.tokens, ...pads];
      const queries = look === "cross" ? words.target : keys;
      const real = keys.map((token) => !masked || token !== "[PAD]");
      const half = keys.map((_, position) => Number(position >= keys.length / 2));
      const keep = formulas.keep(
        look === "cross" ? "full" : look,
        real,
        { window: 3, prefix: 2, documents: half },
        queries.length,
      );
      chosen = Math.min(chosen, queries.length - 1);
      const rows = queries.map((token, q) => {
        const button = build("button", { type: "button", "aria-pressed": q === chosen }, [token]);
        button.addEventListener("click", () => {
          chosen = q;
          show();
          table.querySelectorAll("button")[q].focus();
        });
        return build("tr", { class: keep[q].some(Boolean) ? "" : "qa-look__blind" }, [
          build("th", { scope: "row" }, [button]),
          ...keep[q].map((sees) =>
            build("td", { class: sees ? "qa-look__sees" : "" }, [sees ? "✓" : "·"]),
          ),
        ]);
      });
      table.replaceChildren(
        build("caption", {}, [words.caption]),
        build("tr", {}, [
          build("td", {}),
          ...keys.map((token) => build("th", { scope: "col" }, [token])),
        ]),
        ...rows,
      );
      const seen = keys.filter((_, k) => keep[chosen][k]);
      says.textContent = fill(seen.length ? words.says : words.blind, {
        query: queries[chosen],
        seen: seen.length,
        all: keys.length,
        keys: seen.join(words.comma),
      });
    };
    host.append(form, scrolling(table, words.caption), says);
    return [form, show];
  },

  // Which place each trained head looks at, and what is lost without it.
  heads(host, words, drawn) {
    const HEADS = 4;
    const form = build("form", {}, [select("panel", words.task, words.tasks)]);
    const table = build("table", { class: "qa-look" });
    const says = build("p", { class: "qa-explore__says", "aria-live": "polite" });
    const off = new Set();

    const show = () => {
      const recorded = drawn[form.elements.panel.value].matrix.value;
      const places = recorded.length / HEADS;
      const weights = Array.from({ length: HEADS }, (_, head) =>
        recorded.slice(head * places, (head + 1) * places),
      );
      const best = (heads) =>
        Array.from({ length: places }, (_, place) => Math.max(0, ...heads.map((w) => w[place])));
      const left = best(weights.filter((_, head) => !off.has(head)));
      const rows = weights.map((row, head) => {
        const label = fill(words.head, { head });
        const button = build("button", { type: "button", "aria-pressed": !off.has(head) }, [label]);
        button.addEventListener("click", () => {
          if (!off.delete(head)) off.add(head);
          show();
          table.querySelectorAll("button")[head].focus();
        });
        return build("tr", { class: off.has(head) ? "qa-look__off" : "" }, [
          build("th", { scope: "row" }, [button]),
          ...row.map(shaded),
        ]);
      });
      table.replaceChildren(
        build("caption", {}, [words.caption]),
        build("tr", {}, [
          build("th", { scope: "col" }, [words.place]),
          ...left.map((_, place) => build("th", { scope: "col" }, [String(place)])),
        ]),
        ...rows,
        build("tr", {}, [build("th", { scope: "row" }, [words.left]), ...left.map(shaded)]),
      );
      const lost = best(weights).flatMap((w, place) => (w > 0.5 && left[place] <= 0.5 ? [place] : []));
      says.textContent = fill(lost.length ? words.lost : words.kept, { places: lost.join(words.comma) });
    };
    host.append(form, scrolling(table, words.caption), says);
    return [form, show];
  },
};

for (const host of document.querySelectorAll("[data-explore]")) {
  const { explore, words, drawn } = host.dataset;
  const [form, show] = explorers[explore](host, JSON.parse(words), JSON.parse(drawn));
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
  host.hidden = false;
}

// Small things that all of them use. Declared functions are there before the loop above runs.

function build(tag, attributes, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function scrolling(table, label) {
  return build("div", { class: "qa-scroll", tabindex: 0, role: "region", "aria-label": label }, [table]);
}

// A cell whose colour is its weight.
function shaded(weight) {
  const most = weight > 0.5 ? "qa-look__most" : "";
  return build("td", { class: most, style: `--weight: ${weight}` }, [weight.toFixed(1)]);
}

function slider(name, label, range) {
  const value = build("output", {});
  return build("label", {}, [label, build("input", { type: "range", name, ...range }), value]);
}

function radios(name, legend, choices) {
  const options = Object.entries(choices).map(([value, label], number) =>
    build("label", {}, [
      build("input", { type: "radio", name, value, ...(number ? {} : { checked: "" }) }),
      label,
    ]),
  );
  return build("fieldset", {}, [build("legend", {}, [legend]), ...options]);
}

function select(name, label, choices) {
  const options = Object.entries(choices).map(([value, text]) => build("option", { value }, [text]));
  return build("label", {}, [label, build("select", { name }, options)]);
}

function checkbox(name, label) {
  return build("label", {}, [build("input", { type: "checkbox", name, checked: "" }), label]);
}

function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
