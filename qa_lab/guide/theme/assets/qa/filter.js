// Filters for the ledger and the audit. Without this script both show everything.

for (const container of document.querySelectorAll("[data-qa-filter]")) {
  const form = container.querySelector("form");
  const rows = [...container.querySelectorAll("tbody > tr, .qa-statements > li")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const output = form.querySelector("output");

  const apply = () => {
    const { words = "", ...choices } = Object.fromEntries(new FormData(form));
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, number) => {
      const fits =
        wanted.every((word) => texts[number].includes(word)) &&
        Object.entries(choices).every(
          ([name, choice]) => !choice || row.dataset[name].split(" ").includes(choice),
        );
      row.hidden = !fits;
      shown += fits;
    });
    output.textContent = output.dataset.template
      .replace("{shown}", shown)
      .replace("{all}", rows.length);
  };

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();

  // A link to one statement must find it, whatever was filtered before.
  window.addEventListener("hashchange", () => {
    if (container.querySelector(`${CSS.escape(location.hash.slice(1)) && location.hash}[hidden]`)) {
      form.reset();
      apply();
    }
  });
}
