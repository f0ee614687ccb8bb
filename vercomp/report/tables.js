// Press a heading: the rows are sorted by it. They are shown a page at a time.
for (const data of document.querySelectorAll("script.rows")) {
  const section = data.parentElement;
  const table = section.querySelector("table.sortable");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const more = section.querySelector(".more");
  const { columns, page, order: first } = JSON.parse(data.textContent);
  const count = columns[0].values.length;
  let order = first.length ? first : [...body.rows.keys()];
  let shown = Math.min(page, count);

  const size = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);
  const spell = (column, place) => {
    const value = column.values[place];
    if (column.words) return column.words[value];
    if (value === null) return "–";
    if (value === "inf") return "∞";
    if (value === "-inf") return "−∞";
    return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  };
  const write = (from) => {
    for (const place of order.slice(from, shown)) {
      const row = body.insertRow();
      columns.forEach((column, at) => {
        const cell = document.createElement(at ? "td" : "th");
        if (!at) cell.scope = "row";
        cell.className = heads[at].className;
        cell.textContent = spell(column, place);
        row.append(cell);
      });
    }
    section.querySelector(".shown").textContent =
      `${shown.toLocaleString("en")} of ${count.toLocaleString("en")} inputs. `;
    more.hidden = shown >= count;
  };
  more.hidden = shown >= count;
  more.addEventListener("click", () => {
    const from = shown;
    shown = Math.min(shown + page, count);
    write(from);
  });
  heads.forEach((head, at) => {
    head.firstElementChild.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      const values = columns[at].values.map(size);
      const sign = falling ? -1 : 1;
      order = [...values.keys()].sort((one, other) => {
        const [a, b] = [values[one], values[other]];
        if (a === null || b === null) return (a === null) - (b === null);  // unknown ones last
        return a === b ? one - other : a < b ? -sign : sign;
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      shown = Math.min(page, count);
      body.replaceChildren();
      write(0);
    });
  });
}
