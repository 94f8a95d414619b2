// What htmx does not do: charts, choosing runs to compare, and standing still while nobody looks.
(() => {
  "use strict";
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // resolves light-dark() to the colour in force
  const colour = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const short = (value) =>
    value == null ? "–" : Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : +value.toPrecision(4) + "";

  const smooth = (values, share) => {
    let held = null;
    return values.map((value) => (value == null ? null : (held = held == null ? value : share * held + (1 - share) * value)));
  };

  const draw = (figure) => {
    const { series, x, log, smoothing } = figure.chart;
    const place = figure.querySelector(".plot");
    place.replaceChildren();
    const tables = series.map((one) => {
      const start = one.time[0] ?? 0;
      const across = x === "time" ? one.time.map((t) => (t - start) / 1000) : one.step;
      const order = across.map((_, i) => i).sort((a, b) => across[a] - across[b]);
      const values = order.map((i) => one.value[i]).map((v) => (log && !(v > 0) ? null : v));
      return [order.map((i) => across[i]), smoothing ? smooth(values, smoothing) : values];
    });
    if (!tables.some((table) => table[0].length)) {
      place.textContent = "No points yet.";
      return;
    }
    const axis = { stroke: colour("--soft"), grid: { stroke: css("--line") && colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const lone = tables.every((table) => table[0].length < 2);
    const strokes = series.map((_, i) => colour(`--s${i % 10}`));
    figure.plot = new uPlot({
      width: place.clientWidth, height: place.clientHeight,
      legend: { show: false },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      axes: [{ ...axis, size: 30 }, { ...axis, size: 58, values: (_, ticks) => ticks.map((t) => (t == null ? "" : short(t))) }],
      series: [{}, ...series.map((one, i) => ({
        label: one.label, stroke: strokes[i], width: 1.6, spanGaps: true,
        points: { show: lone || tables[i][0].length < 40, size: 5 },
      }))],
      cursor: { drag: { x: true, y: false } },
      hooks: { setCursor: [(plot) => {
        const at = plot.cursor.idx;
        const rows = figure.querySelectorAll(".legend output");
        rows.forEach((row, i) => { row.value = at == null ? row.dataset.last : short(plot.data[i + 1][at]); });
      }] },
    }, uPlot.join(tables), place);
  };

  const legend = (figure) => {
    const list = document.createElement("ul");
    list.className = "legend";
    figure.chart.series.forEach((one, i) => {
      const item = document.createElement("li");
      const key = document.createElement("span");
      key.className = `key s${i % 10}`;
      const value = document.createElement("output");
      value.dataset.last = value.value = short(one.value.at(-1));
      item.append(key, `${one.label} `, value);
      list.append(item);
    });
    figure.append(list);
  };

  const load = async (figure) => {
    const answer = await fetch(figure.dataset.src, { headers: { Accept: "application/json" } });
    if (!answer.ok) { figure.querySelector(".plot").textContent = "The points could not be read. Load the page again."; return; }
    const { series } = await answer.json();
    const controls = document.querySelector("[data-chart-controls]");
    figure.chart = { series, ...choices(controls) };
    draw(figure);
    legend(figure);
    figure.dataset.drawn = "true";
  };

  const choices = (form) => ({
    x: form?.elements.x?.value ?? "step",
    log: Boolean(form?.elements.log?.checked),
    smoothing: Number(form?.elements.smoothing?.value ?? 0),
  });

  const charts = () => {
    const figures = [...document.querySelectorAll("figure[data-src]:not([data-drawn])")];
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); load(entry.target); }
    }, { rootMargin: "300px" });
    figures.forEach((figure) => seen.observe(figure));
  };
  const redraw = () => document.querySelectorAll("figure[data-drawn]").forEach(draw);

  const picks = () => {
    for (const form of document.querySelectorAll("form[data-pick]")) {
      const button = form.querySelector("[data-pick-button]");
      const count = () => {
        const chosen = form.querySelectorAll("input[type=checkbox][data-one]:checked").length;
        button.textContent = chosen ? `Compare ${chosen}` : "Compare";
        button.disabled = chosen < 2;
      };
      form.addEventListener("change", (event) => {
        if (event.target.matches("[data-all]"))
          form.querySelectorAll("input[data-one]").forEach((box) => { box.checked = event.target.checked; });
        count();
      });
      count();
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (window.uPlot) {
      charts();
      document.querySelector("[data-chart-controls]")?.addEventListener("input", (event) => {
        document.querySelectorAll("figure[data-drawn]").forEach((figure) => { Object.assign(figure.chart, choices(event.currentTarget)); });
        redraw();
      });
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
      let waiting;
      addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 150); });
    }
    picks();
  });
  document.addEventListener("change", (event) => { if (event.target.matches("select[data-go]")) event.target.form.requestSubmit(); });
  // a page in a hidden tab asks for nothing, and what a person is filling in is not replaced under their hands
  const busy = (part) => part.matches?.("[data-live]") && part.querySelector("details[open], :focus");
  document.addEventListener("htmx:before:request", (event) => { if (document.hidden || busy(event.target)) event.preventDefault(); });
  document.addEventListener("htmx:before:swap", (event) => { if (busy(event.target)) event.preventDefault(); });
})();
